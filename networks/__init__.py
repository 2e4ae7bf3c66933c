"""Weights, and the decoding of their outputs."""

from __future__ import annotations

from networks.attention_pool import AttentionPool
from networks.data_parallel import data_parallel
from networks.decode_boxes import decode_boxes
from networks.feature_pyramid import FeaturePyramid
from networks.fully_convolutional import FullyConvolutional
from networks.gated_attention_pool import GatedAttentionPool
from networks.global_average_pool import GlobalAveragePool
from networks.global_box_regressor import GlobalBoxRegressor
from networks.global_max_pool import GlobalMaxPool
from networks.logits_to_scan import logits_to_scan
from networks.nodule_detector import NoduleDetector
from networks.onnx_network import OnnxNetwork
from networks.pooled_segmenter import PooledSegmenter
from networks.receptive_field import ReceptiveField
from networks.resnet_encoder import ResNetEncoder
from networks.risk_calibration import RiskCalibration, read_calibration
from networks.risk_classifier import RiskClassifier
from networks.tiled_detection import TiledDetection
from networks.tiled_segmentation import TiledSegmentation
from networks.unet import UNet
from networks.yearly_hazards import YearlyHazards

__all__ = [
    "AttentionPool",
    "FeaturePyramid",
    "FullyConvolutional",
    "GatedAttentionPool",
    "GlobalAveragePool",
    "GlobalBoxRegressor",
    "GlobalMaxPool",
    "NoduleDetector",
    "OnnxNetwork",
    "PooledSegmenter",
    "ReceptiveField",
    "ResNetEncoder",
    "RiskCalibration",
    "RiskClassifier",
    "TiledDetection",
    "TiledSegmentation",
    "UNet",
    "YearlyHazards",
    "data_parallel",
    "decode_boxes",
    "logits_to_scan",
    "read_calibration",
]
