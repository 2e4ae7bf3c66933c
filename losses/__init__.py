"""Differentiable comparisons of raw outputs with truth."""

from __future__ import annotations

from losses.atss_match import CellMatches, atss_match
from losses.attention_loss import AttentionLoss, attention_loss
from losses.detection_loss import DetectionLoss
from losses.hard_negative_loss import HardNegativeLoss
from losses.lesion_attention_loss import lesion_attention_loss
from losses.lesion_floor import lesion_floor
from losses.risk_attention_loss import RiskAttentionLoss
from losses.voxel_loss import VoxelLoss
from losses.yearly_risk_loss import yearly_risk_loss

__all__ = [
    "AttentionLoss",
    "CellMatches",
    "DetectionLoss",
    "HardNegativeLoss",
    "RiskAttentionLoss",
    "VoxelLoss",
    "atss_match",
    "attention_loss",
    "lesion_attention_loss",
    "lesion_floor",
    "yearly_risk_loss",
]
