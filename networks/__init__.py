"""Weights, and the decoding of their outputs."""

from __future__ import annotations

from networks.attention_pool import AttentionPool
from networks.gated_attention_pool import GatedAttentionPool
from networks.global_average_pool import GlobalAveragePool
from networks.global_max_pool import GlobalMaxPool
from networks.receptive_field import ReceptiveField
from networks.resnet_encoder import ResNetEncoder
from networks.risk_calibration import RiskCalibration, read_calibration
from networks.risk_classifier import RiskClassifier
from networks.yearly_hazards import YearlyHazards

__all__ = [
    "AttentionPool",
    "GatedAttentionPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReceptiveField",
    "ResNetEncoder",
    "RiskCalibration",
    "RiskClassifier",
    "YearlyHazards",
    "read_calibration",
]
