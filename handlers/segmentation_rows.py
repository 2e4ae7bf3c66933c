"""What an evaluation says of each scan's and each nodule's mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from metrics import SIZE_CLASSES, SegmentedScan

SCAN_COLUMNS = (
    "patient_id",
    "nodules",
    "found",
    "components",
    "false_components",
    "dice",
    "summed_dice",
    "summed_dice_found",
    "volume_mm3",
    "predicted_mm3",
    "false_mm3",
    *(f"{name}_{size}" for size in SIZE_CLASSES for name in ("nodules", "found", "summed_dice")),
)
NODULE_COLUMNS = (
    "patient_id",
    "instance",
    "coordX",
    "coordY",
    "coordZ",
    "diameter_mm",
    "size_class",
    "nodules_in_scan",
    "found",
    "dice",
    "surface_distance_mm",
    "hausdorff_95_mm",
    "volume_mm3",
    "predicted_mm3",
    "volume_error_percent",
    "absolute_volume_error_percent",
)


def segmented_scan_rows(scans: Iterable[SegmentedScan]) -> Iterable[dict[str, Any]]:
    """One row of ``per_scan.csv`` for each scan."""
    for scan in scans:
        row: dict[str, Any] = {
            "patient_id": scan.patient_id,
            "components": scan.components,
            "false_components": scan.false_components,
            "dice": scan.dice,
            "summed_dice_found": sum(nodule.dice for nodule in scan.nodules if nodule.found),
            "volume_mm3": sum(nodule.volume_mm3 for nodule in scan.nodules),
            "predicted_mm3": scan.predicted_mm3,
            "false_mm3": scan.false_mm3,
        }
        for size in ("", *SIZE_CLASSES):
            own = [nodule for nodule in scan.nodules if size in ("", nodule.size_class)]
            suffix = size and f"_{size}"
            row[f"nodules{suffix}"] = len(own)
            row[f"found{suffix}"] = sum(nodule.found for nodule in own)
            row[f"summed_dice{suffix}"] = sum(nodule.dice for nodule in own)
        yield row


def segmented_nodule_rows(scans: Sequence[SegmentedScan]) -> Iterable[tuple[Any, ...]]:
    """One row of ``nodules.csv`` for each true nodule."""
    for scan in scans:
        for nodule in scan.nodules:
            error = nodule.volume_error_percent
            yield (
                scan.patient_id,
                nodule.instance,
                *nodule.centre_lps_mm,
                nodule.diameter_mm,
                nodule.size_class,
                len(scan.nodules),
                "yes" if nodule.found else "no",
                nodule.dice,
                nodule.surface_distance_mm,
                nodule.hausdorff_95_mm,
                nodule.volume_mm3,
                nodule.predicted_mm3,
                error,
                None if error is None else abs(error),
            )
