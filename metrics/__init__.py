"""What a trained network is worth: pure functions of one scan or one cohort, and Ignite metrics."""

from __future__ import annotations

from metrics.attention_localization import (
    AttentionLocalization,
    JudgedAttention,
    ScanLocalization,
    attention_localization,
    judged_attention,
)
from metrics.attention_peak import attention_side, peak_distance
from metrics.auroc import Auroc, auroc, weighted_auroc
from metrics.average_precision import AveragePrecision, average_precision
from metrics.bootstrap_interval import (
    BootstrapInterval,
    TooFewPatientsError,
    bootstrap_interval,
    weighted_mean,
)
from metrics.calibration_error import (
    ReliabilityBins,
    brier_score,
    calibration_errors,
    expected_calibration_error,
    reliability_bins,
)
from metrics.censoring_weights import censoring_weights
from metrics.concordance import Concordance, weighted_concordance
from metrics.froc_curve import (
    FrocIntervals,
    froc_band,
    froc_difference,
    froc_intervals,
    froc_sensitivities,
    rate_thresholds,
)
from metrics.froc_metric import Froc
from metrics.froc_values import froc_values
from metrics.gather_ranks import gather_ranks, gather_scans
from metrics.luna16_csv import ScanPoints, read_findings, read_marks, read_series
from metrics.lung_rads_category import lung_rads_size_category
from metrics.marked_scan import MarkedScan, marked_scans, marks_and_nodules, matched_scans
from metrics.match_marks import MatchedMarks, best_marks, match_marks
from metrics.match_nodules import MatchedNodules, match_nodules
from metrics.mean_loss_terms import MeanLossTerms
from metrics.nodule_diameters import NoduleDiameters, nodule_diameters
from metrics.nodule_follow_up import (
    NoduleChange,
    NoduleFollowUp,
    RecistFollowUp,
    nodule_follow_up,
)
from metrics.nodule_growth import (
    bts_growth,
    days_between,
    doubling_time_days,
    fleischner_growth,
    growth_percent,
    lung_rads_growth,
)
from metrics.nodule_guidelines import (
    BTS_GROWTH_PERCENT,
    BTS_SOURCE,
    FLEISCHNER_GROWTH_MM,
    FLEISCHNER_SIZES,
    FLEISCHNER_SOURCE,
    LUNG_RADS_GROWTH_MM,
    LUNG_RADS_SIZES,
    LUNG_RADS_SOURCE,
    SizeRule,
    size_rule,
)
from metrics.nodule_instances import NoduleInstances, nodule_instances
from metrics.nodule_mass import nodule_mass_mg
from metrics.nodule_measurements import (
    NoduleMeasurement,
    measured_instances,
    nodule_measurements,
)
from metrics.nodule_segmentation import NoduleSegmentation
from metrics.nodule_shift import NoduleShift, nodule_shift
from metrics.nodule_size import SIZE_CLASSES, size_class
from metrics.nodule_volume import NoduleVolume, nodule_volume
from metrics.operating_point import sensitivity_threshold
from metrics.paired_differences import ArmEstimates, Estimate, paired_differences
from metrics.platt_scaling import NoCalibrationError, PlattScaling, platt_scaling
from metrics.recist_response import RECIST_SOURCE, recist_response, target_lesions
from metrics.scan_average_precision import (
    ScanAveragePrecision,
    weighted_scan_average_precision,
)
from metrics.screening_table import ScreeningTable, screening_table
from metrics.segmentation_values import nodule_values, segmentation_values
from metrics.segmented_nodule import SegmentedNodule
from metrics.segmented_scan import SegmentedScan, segmented_scan
from metrics.time_dependent_auc import TimeDependentAuc, weighted_time_dependent_auc
from metrics.weighted_median import weighted_median

__all__ = [
    "BTS_GROWTH_PERCENT",
    "BTS_SOURCE",
    "FLEISCHNER_GROWTH_MM",
    "FLEISCHNER_SIZES",
    "FLEISCHNER_SOURCE",
    "LUNG_RADS_GROWTH_MM",
    "LUNG_RADS_SIZES",
    "LUNG_RADS_SOURCE",
    "RECIST_SOURCE",
    "SIZE_CLASSES",
    "ArmEstimates",
    "AttentionLocalization",
    "Auroc",
    "AveragePrecision",
    "BootstrapInterval",
    "Concordance",
    "Estimate",
    "Froc",
    "FrocIntervals",
    "JudgedAttention",
    "MarkedScan",
    "MatchedMarks",
    "MatchedNodules",
    "MeanLossTerms",
    "NoCalibrationError",
    "NoduleChange",
    "NoduleDiameters",
    "NoduleFollowUp",
    "NoduleInstances",
    "NoduleMeasurement",
    "NoduleSegmentation",
    "NoduleShift",
    "NoduleVolume",
    "PlattScaling",
    "RecistFollowUp",
    "ReliabilityBins",
    "ScanAveragePrecision",
    "ScanLocalization",
    "ScanPoints",
    "ScreeningTable",
    "SegmentedNodule",
    "SegmentedScan",
    "SizeRule",
    "TimeDependentAuc",
    "TooFewPatientsError",
    "attention_localization",
    "attention_side",
    "auroc",
    "average_precision",
    "best_marks",
    "bootstrap_interval",
    "brier_score",
    "bts_growth",
    "calibration_errors",
    "censoring_weights",
    "days_between",
    "doubling_time_days",
    "expected_calibration_error",
    "fleischner_growth",
    "froc_band",
    "froc_difference",
    "froc_intervals",
    "froc_sensitivities",
    "froc_values",
    "gather_ranks",
    "gather_scans",
    "growth_percent",
    "judged_attention",
    "lung_rads_growth",
    "lung_rads_size_category",
    "marked_scans",
    "marks_and_nodules",
    "match_marks",
    "match_nodules",
    "matched_scans",
    "measured_instances",
    "nodule_diameters",
    "nodule_follow_up",
    "nodule_instances",
    "nodule_mass_mg",
    "nodule_measurements",
    "nodule_shift",
    "nodule_values",
    "nodule_volume",
    "paired_differences",
    "peak_distance",
    "platt_scaling",
    "rate_thresholds",
    "read_findings",
    "read_marks",
    "read_series",
    "recist_response",
    "reliability_bins",
    "screening_table",
    "segmentation_values",
    "segmented_scan",
    "sensitivity_threshold",
    "size_class",
    "size_rule",
    "target_lesions",
    "weighted_auroc",
    "weighted_concordance",
    "weighted_mean",
    "weighted_median",
    "weighted_scan_average_precision",
    "weighted_time_dependent_auc",
]
