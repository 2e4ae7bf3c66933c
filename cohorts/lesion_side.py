"""The lung that lesions lie in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.data import MetaTensor

from transforms.boxes_to_mask import covered_voxels
from transforms.find_lungs import find_lungs
from transforms.separate_lungs import LEFT, RIGHT

MARGIN_MM = 10.0
CLEAR_SHARE = 2 / 3


def lesion_side(boxes_mm: Sequence[Sequence[float]], ct: MetaTensor) -> str:
    """``left``, ``right``, ``both`` or ``unknown``, from lungs that HU show.

    Each box lies in the lung that has two thirds or more of the lung's voxels within 10 mm of
    it; the voxels of a tumour count as no lung. One without such a lung leaves the side unknown.

    Args:
        boxes_mm: ``(N, 6)`` centre and size in RAS mm.
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm.
    """
    if not len(boxes_mm):
        return "unknown"
    labels = find_lungs(ct).as_tensor()[0]
    widened = [[*box[:3], *(size + 2 * MARGIN_MM for size in box[3:])] for box in boxes_mm]
    sides = set()
    for start, stop in covered_voxels(np.array(widened), ct):
        pairs = zip(start.clip(min=0).tolist(), stop.clip(min=0).tolist(), strict=True)
        around = labels[tuple(slice(first, past) for first, past in pairs)]
        left, right = int((around == LEFT).sum()), int((around == RIGHT).sum())
        if not left + right or max(left, right) < CLEAR_SHARE * (left + right):
            sides.add("unknown")
        else:
            sides.add("left" if left > right else "right")
    if sides == {"left", "right"}:
        return "both"
    return sides.pop() if len(sides) == 1 else "unknown"
