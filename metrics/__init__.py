"""What a trained network is worth: pure functions of one scan or one cohort, and Ignite metrics."""

from __future__ import annotations

from metrics.attention_localization import (
    AttentionLocalization,
    ScanLocalization,
    attention_localization,
)
from metrics.auroc import Auroc, auroc, weighted_auroc
from metrics.average_precision import AveragePrecision, average_precision
from metrics.bootstrap_interval import (
    BootstrapInterval,
    TooFewPatientsError,
    bootstrap_interval,
    weighted_mean,
)
from metrics.froc_curve import (
    FrocIntervals,
    froc_difference,
    froc_intervals,
    froc_sensitivities,
)
from metrics.gather_ranks import gather_ranks
from metrics.luna16_csv import ScanPoints, read_findings, read_marks, read_series
from metrics.match_marks import MatchedMarks, match_marks
from metrics.mean_loss_terms import MeanLossTerms

__all__ = [
    "AttentionLocalization",
    "Auroc",
    "AveragePrecision",
    "BootstrapInterval",
    "FrocIntervals",
    "MatchedMarks",
    "MeanLossTerms",
    "ScanLocalization",
    "ScanPoints",
    "TooFewPatientsError",
    "attention_localization",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "froc_difference",
    "froc_intervals",
    "froc_sensitivities",
    "gather_ranks",
    "match_marks",
    "read_findings",
    "read_marks",
    "read_series",
    "weighted_auroc",
    "weighted_mean",
]
