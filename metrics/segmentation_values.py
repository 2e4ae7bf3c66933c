"""A segmenter's numbers under their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from metrics.bootstrap_interval import FloatArray, weighted_mean
from metrics.epoch_values import value_with_interval
from metrics.segmented_nodule import SegmentedNodule
from metrics.segmented_scan import SegmentedScan
from metrics.weighted_median import weighted_median

NODULE_VALUES = (
    "dice",
    "sensitivity",
    "dice_found",
    "surface_distance_mm",
    "hausdorff_95_mm",
    "volume_error_percent",
    "volume_bias_percent",
)
SCAN_VALUES = ("false_components_per_scan", "scan_dice")


def nodule_values(nodules: Sequence[tuple[str, SegmentedNodule]]) -> dict[str, float]:
    """What is said of some nodules, each given with the id of its patient.

    - ``dice``: mean Dice, of those that nothing touches 0
    - ``sensitivity``: share of them found
    - ``dice_found``: mean Dice of the found ones
    - ``surface_distance_mm`` and ``hausdorff_95_mm``: means over the found ones
    - ``volume_error_percent``: median size of the volume's error, of the found ones
    - ``volume_bias_percent``: its median with the sign, above 0 where volumes come out too large

    Each comes with ``<name>_low`` and ``<name>_high``, its 95 % bootstrap over the patients who
    have such a nodule, left out below ten of them. A value of no nodule is left out.
    """
    found = [(patient, nodule) for patient, nodule in nodules if nodule.found]
    errors = [(patient, nodule.volume_error_percent) for patient, nodule in found]
    return (
        _value("dice", weighted_mean, [(p, nodule.dice) for p, nodule in nodules])
        | _value("sensitivity", weighted_mean, [(p, nodule.found) for p, nodule in nodules])
        | _value("dice_found", weighted_mean, [(p, nodule.dice) for p, nodule in found])
        | _value(
            "surface_distance_mm",
            weighted_mean,
            [(p, nodule.surface_distance_mm) for p, nodule in found],
        )
        | _value(
            "hausdorff_95_mm", weighted_mean, [(p, nodule.hausdorff_95_mm) for p, nodule in found]
        )
        | _value(
            "volume_error_percent",
            weighted_median,
            [(p, abs(error)) for p, error in errors if error is not None],
        )
        | _value("volume_bias_percent", weighted_median, errors)
    )


def segmentation_values(scans: Sequence[SegmentedScan]) -> dict[str, float]:
    """:func:`nodule_values` of all nodules of a cohort, and what is said of its scans.

    - ``false_components_per_scan``: components that touch no true nodule
    - ``scan_dice``: mean Dice of a scan's whole mask, over the scans with a nodule or a prediction
    """
    false = [(scan.patient_id, scan.false_components) for scan in scans]
    dice = [(scan.patient_id, scan.dice) for scan in scans if scan.dice is not None]
    return (
        nodule_values(cohort_nodules(scans))
        | _value("false_components_per_scan", weighted_mean, false)
        | _value("scan_dice", weighted_mean, dice)
    )


def cohort_nodules(scans: Sequence[SegmentedScan]) -> list[tuple[str, SegmentedNodule]]:
    """All nodules of the scans, in their order, each with the id of its patient."""
    return [(scan.patient_id, nodule) for scan in scans for nodule in scan.nodules]


def _value(
    name: str,
    average: Callable[..., FloatArray],
    rows: Sequence[tuple[str, float | None]],
) -> dict[str, float]:
    """``name`` and its ends; each row is a patient's id and a number."""
    if not rows:
        return {}
    patients, column = zip(*rows, strict=True)
    values = np.array(column, dtype=np.float64)
    return value_with_interval(name, partial(average, values), patients)
