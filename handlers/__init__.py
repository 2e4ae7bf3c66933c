"""What surrounds an engine: batch preparation, tracking, checkpoints, files and pictures."""

from __future__ import annotations

from handlers.attention_map import AttentionPeak, attention_map, attention_peak
from handlers.batch_of_one import batch_of_one
from handlers.check_epochs import check_epochs
from handlers.detection_evaluation import DetectionEvaluation
from handlers.detection_pictures import DetectionPictures
from handlers.detection_report import DetectionReport
from handlers.early_stopping import EarlyStopping
from handlers.epoch_report import EpochReport
from handlers.example_pictures import ExamplePictures
from handlers.gradient_clipping import GradientClipping
from handlers.join_ranks import join_ranks
from handlers.mlflow_tracking import MlflowTracking
from handlers.prepare_targets import PrepareTargets
from handlers.rank_sampler import rank_sampler
from handlers.rank_share import rank_shard, rank_share
from handlers.reliability_picture import reliability_picture
from handlers.risk_calibrator import RiskCalibrator
from handlers.risk_evaluation import RiskEvaluation
from handlers.risk_report import RiskReport
from handlers.scan_writer import ScanWriter
from handlers.segmentation_evaluation import SegmentationEvaluation
from handlers.segmentation_pictures import SegmentationPictures
from handlers.segmentation_report import SegmentationReport
from handlers.stop_on_interrupt import StopOnInterrupt
from handlers.three_planes import three_planes
from handlers.trained_weights import TrainedWeights
from handlers.training_checkpoints import TrainingCheckpoints
from handlers.training_curves import TrainingCurves, draw_curves

__all__ = [
    "AttentionPeak",
    "DetectionEvaluation",
    "DetectionPictures",
    "DetectionReport",
    "EarlyStopping",
    "EpochReport",
    "ExamplePictures",
    "GradientClipping",
    "MlflowTracking",
    "PrepareTargets",
    "RiskCalibrator",
    "RiskEvaluation",
    "RiskReport",
    "ScanWriter",
    "SegmentationEvaluation",
    "SegmentationPictures",
    "SegmentationReport",
    "StopOnInterrupt",
    "TrainedWeights",
    "TrainingCheckpoints",
    "TrainingCurves",
    "attention_map",
    "attention_peak",
    "batch_of_one",
    "check_epochs",
    "draw_curves",
    "join_ranks",
    "rank_sampler",
    "rank_shard",
    "rank_share",
    "reliability_picture",
    "three_planes",
]
