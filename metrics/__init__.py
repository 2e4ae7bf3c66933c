"""What a trained network is worth: pure functions of one scan or one cohort, and Ignite metrics."""

from __future__ import annotations

from metrics.attention_localization import (
    AttentionLocalization,
    ScanLocalization,
    attention_localization,
)
from metrics.auroc import Auroc, auroc, weighted_auroc
from metrics.bootstrap_interval import (
    BootstrapInterval,
    TooFewPatientsError,
    bootstrap_interval,
    weighted_mean,
)
from metrics.gather_ranks import gather_ranks
from metrics.mean_loss_terms import MeanLossTerms

__all__ = [
    "AttentionLocalization",
    "Auroc",
    "BootstrapInterval",
    "MeanLossTerms",
    "ScanLocalization",
    "TooFewPatientsError",
    "attention_localization",
    "auroc",
    "bootstrap_interval",
    "gather_ranks",
    "weighted_auroc",
    "weighted_mean",
]
