"""Boxes drawn slice by slice, linked into lesions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

GAP_MM = 5.0  # of slices without a box that a lesion may span
SAME_SLICE_IOU = 0.5
SHARE_OF_SMALLER = 0.3


def link_boxes(boxes_voxel: Sequence[Sequence[float]], *, slice_mm: float) -> list[list[int]]:
    """Which boxes show one lesion, as lists of their indices.

    Two boxes belong together where they lie in one slice and overlap by half of their union (the
    same lesion drawn twice), or where they lie in neighbouring slices, or in slices at most 5 mm
    apart, and share 30 % of the smaller one's area (a lesion tapers off at its ends).

    Args:
        boxes_voxel: ``(N, 6)`` corners (xyzxyz), each one slice thick: z from k to k + 1.
        slice_mm: distance from slice to slice.

    Returns:
        Lesions by their lowest slice, boxes of each by slice.
    """
    boxes = np.asarray(boxes_voxel, float).reshape(-1, 6)
    if not len(boxes):
        return []
    low, high = boxes[:, None, :2], boxes[:, None, 3:5]
    overlap = np.minimum(high, boxes[None, :, 3:5]) - np.maximum(low, boxes[None, :, :2])
    shared = overlap.clip(min=0).prod(axis=-1)
    area = (boxes[:, 3:5] - boxes[:, :2]).prod(axis=-1)
    iou = shared / (area[:, None] + area[None] - shared)
    of_smaller = shared / np.minimum(area[:, None], area[None])
    apart = np.abs(boxes[:, None, 2] - boxes[None, :, 2])
    near = apart <= max(1.0, GAP_MM / slice_mm) + 1e-6
    linked = np.where(apart < 0.5, iou >= SAME_SLICE_IOU, near & (of_smaller >= SHARE_OF_SMALLER))
    _, label_of = connected_components(coo_matrix(linked), directed=False)
    order = np.argsort(boxes[:, 2], kind="stable")
    lesions: dict[int, list[int]] = {}
    for index in order.tolist():
        lesions.setdefault(int(label_of[index]), []).append(index)
    return list(lesions.values())
