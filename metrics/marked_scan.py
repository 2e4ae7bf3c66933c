"""A scan's marks and nodules, in millimetres along its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from metrics.luna16_csv import FloatArray, ScanPoints
from metrics.match_marks import MatchedMarks, match_marks

_FAR_MM = -1e6


class MarkedScan(NamedTuple):
    """A detector's boxes in a scan and the nodules that it has; corners in mm along the array's
    axes, low corner first.

    Attributes:
        boxes_mm: ``(N, 2 * spatial_dims)``.
        scores: ``(N,)`` of the boxes.
        nodules_mm: ``(M, 2 * spatial_dims)``; those that a crop lost come last, where no mark is.
        lost: how many these are.
    """

    boxes_mm: FloatArray
    scores: FloatArray
    nodules_mm: FloatArray
    lost: int


def marked_scans(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> list[MarkedScan]:
    """The scans of a batch.

    Args:
        outputs: lists over the batch of corners ``boxes`` ``(N, 2 * spatial_dims)`` in voxels and
            of ``scores`` ``(N,)``.
        targets: ``boxes_voxel`` ``(B, max_boxes, 2 * spatial_dims)``, ``box_count`` ``(B,)``,
            ``spacing_mm`` ``(B, spatial_dims)`` and, where a crop may have lost boxes, their number
            ``lost_boxes`` ``(B,)``.
    """
    counts = targets["box_count"].tolist()
    lost = targets["lost_boxes"].tolist() if "lost_boxes" in targets else [0] * len(counts)
    rows = zip(
        outputs["boxes"],
        outputs["scores"],
        targets["boxes_voxel"],
        targets["spacing_mm"],
        counts,
        lost,
        strict=True,
    )
    scans = []
    for boxes, scores, nodules, spacing_mm, count, lost_here in rows:
        to_mm = np.tile(_float64(spacing_mm), 2)
        nodules_mm = np.concatenate(
            (_float64(nodules[:count]) * to_mm, _far_boxes(lost_here, len(to_mm)))
        )
        scans.append(MarkedScan(_float64(boxes) * to_mm, _float64(scores), nodules_mm, lost_here))
    return scans


def marks_and_nodules(scans: Sequence[MarkedScan]) -> tuple[ScanPoints, ScanPoints]:
    """All marks, which are the boxes' centres, and all nodules, in the scans' order.

    A nodule's diameter is the mean of its box's sides. In 2D the third coordinate is 0.
    """
    marks = _points([scan.boxes_mm for scan in scans])
    scores = np.concatenate([np.zeros(0), *(scan.scores for scan in scans)])
    return marks._replace(value=scores), _points([scan.nodules_mm for scan in scans])


def matched_scans(scans: Sequence[MarkedScan]) -> MatchedMarks:
    """:func:`metrics.match_marks` of all marks and nodules; no finding is excluded."""
    marks, nodules = marks_and_nodules(scans)
    return match_marks(marks, nodules, _points([]), len(scans))


def _float64(values: torch.Tensor) -> FloatArray:
    return values.double().numpy(force=True)


def _far_boxes(count: int, columns: int) -> FloatArray:
    """Boxes of 1 mm where no mark is."""
    low, high = np.split(np.full((count, columns), _FAR_MM), 2, axis=1)
    return np.concatenate((low, high + 1), axis=1)


def _points(boxes_mm: Sequence[FloatArray]) -> ScanPoints:
    """Centres and mean sides of each scan's boxes."""
    scan = np.repeat(np.arange(len(boxes_mm)), [len(boxes) for boxes in boxes_mm])
    if not len(scan):
        return ScanPoints(np.zeros(0, dtype=np.intp), np.zeros((0, 3)), np.zeros(0))
    low, high = np.split(np.concatenate(boxes_mm), 2, axis=1)
    centre_mm = np.zeros((len(scan), 3))
    centre_mm[:, : low.shape[1]] = (low + high) / 2
    return ScanPoints(scan, centre_mm, (high - low).mean(axis=1))
