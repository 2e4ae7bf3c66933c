"""Weights, and the decoding of their outputs."""

from __future__ import annotations

from networks.attention_pool import AttentionPool
from networks.receptive_field import ReceptiveField
from networks.resnet_encoder import ResNetEncoder
from networks.risk_classifier import RiskClassifier

__all__ = ["AttentionPool", "ReceptiveField", "ResNetEncoder", "RiskClassifier"]
