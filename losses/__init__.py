"""Differentiable comparisons of raw outputs with truth."""

from __future__ import annotations

from losses.attention_loss import AttentionLoss, attention_loss
from losses.risk_attention_loss import RiskAttentionLoss

__all__ = ["AttentionLoss", "RiskAttentionLoss", "attention_loss"]
