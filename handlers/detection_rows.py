"""What an evaluation says of each scan's marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from handlers.detected_scan import DetectedScan
from handlers.judged_nodule import JudgedNodule
from metrics import SIZE_CLASSES, MatchedMarks, rate_thresholds
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN
from metrics.luna16_csv import FloatArray

COLUMNS = (
    "patient_id",
    "nodules",
    "lost_boxes",
    "marks",
    "several",
    "found_at_1",
    "false_at_1",
    "mean_found",
    "found",
    "found_iou",
    *(f"{name}_{size}" for size in SIZE_CLASSES for name in ("nodules", "mean_found")),
)


def detection_rows(
    scans: Sequence[DetectedScan], nodules: Sequence[JudgedNodule], matched: MatchedMarks
) -> list[dict[str, Any]]:
    """One row of ``per_scan.csv`` for each scan.

    Args:
        scans: of the cohort.
        nodules: all of theirs.
        matched: their marks, which give the thresholds of :func:`metrics.rate_thresholds`.
    """
    thresholds = rate_thresholds(matched)
    at_1 = thresholds[FALSE_POSITIVES_PER_SCAN.index(1)]
    false = ~matched.is_nodule & (matched.score >= at_1)
    false_at_1 = np.bincount(matched.scan[false], minlength=len(scans)).tolist()
    in_scan: list[list[JudgedNodule]] = [[] for _ in scans]
    for nodule in nodules:
        in_scan[nodule.scan].append(nodule)
    rows = []
    for scan, own, false_here in zip(scans, in_scan, false_at_1, strict=True):
        found = [nodule.mark for nodule in own if nodule.mark is not None]
        row = {
            "patient_id": scan.patient_id,
            "nodules": len(own),
            "lost_boxes": scan.marked.lost,
            "marks": len(scan.marked.scores),
            "several": "yes" if len(own) > 1 else "no",
            "found_at_1": sum(mark.score >= at_1 for mark in found),
            "false_at_1": false_here,
            "mean_found": _mean_found(own, thresholds),
            "found": len(found),
            "found_iou": sum(mark.iou for mark in found),
        }
        for size in SIZE_CLASSES:
            of_size = [nodule for nodule in own if nodule.size_class == size]
            row[f"nodules_{size}"] = len(of_size)
            row[f"mean_found_{size}"] = _mean_found(of_size, thresholds)
        rows.append(row)
    return rows


def _mean_found(nodules: Sequence[JudgedNodule], thresholds: FloatArray) -> float:
    """How many are found, averaged over the thresholds."""
    scores = [nodule.mark.score for nodule in nodules if nodule.mark is not None]
    return float((np.array(scores)[:, None] >= thresholds).sum()) / len(thresholds)
