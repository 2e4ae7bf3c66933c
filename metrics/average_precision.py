"""Average precision of a detector's boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch

from networks.box_ops import box_iou

_LOW_IOU, _HIGH_IOU, _IOU_STEP = 0.1, 0.5, 0.05


class AveragePrecision(NamedTuple):
    """Average precision at one overlap, and its mean over overlaps 0.1, 0.15, ... 0.5."""

    at_iou_10: float
    at_iou_10_to_50: float


def average_precision(
    boxes: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    true_boxes: Sequence[torch.Tensor],
    *,
    max_boxes: int = 100,
) -> AveragePrecision:
    """Average precision as COCO defines it, of one class, by MONAI's ``COCOMetric``.

    Args:
        boxes: for each scan, corners ``(N, 2 * spatial_dims)``.
        scores: for each scan, ``(N,)``.
        true_boxes: for each scan, corners ``(M, 2 * spatial_dims)``.
        max_boxes: of a scan's boxes, so many of the highest scores count.

    Raises:
        ValueError: lists of different lengths, or no true box in any scan.
    """
    if not len(boxes) == len(scores) == len(true_boxes):
        raise ValueError(
            f"boxes, scores and true_boxes must be of as many scans, "
            f"got {len(boxes)}, {len(scores)} and {len(true_boxes)}"
        )
    if not any(len(scan) for scan in true_boxes):
        raise ValueError(
            f"average precision needs at least one true box, got 0 in {len(true_boxes)} scans"
        )
    metric = COCOMetric(
        classes=["box"],
        iou_list=(_LOW_IOU,),
        iou_range=(_LOW_IOU, _HIGH_IOU, _IOU_STEP),
        max_detection=(max_boxes,),
        per_class=False,
        verbose=False,
    )
    matches = matching_batch(
        iou_fn=_box_iou,
        iou_thresholds=metric.get_iou_thresholds(),
        pred_boxes=[scan.numpy(force=True) for scan in boxes],
        pred_classes=[np.zeros(len(scan), dtype=np.int64) for scan in boxes],
        pred_scores=[scan.numpy(force=True) for scan in scores],
        gt_boxes=[scan.numpy(force=True) for scan in true_boxes],
        gt_classes=[np.zeros(len(scan), dtype=np.int64) for scan in true_boxes],
        max_detections=max_boxes,
    )
    values, _ = metric(matches)
    span = f"{_LOW_IOU:.2f}_{_HIGH_IOU:.2f}_{_IOU_STEP:.2f}"
    return AveragePrecision(
        values[f"AP_IoU_{_LOW_IOU:.2f}_MaxDet_{max_boxes}"],
        values[f"mAP_IoU_{span}_MaxDet_{max_boxes}"],
    )


def _box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
