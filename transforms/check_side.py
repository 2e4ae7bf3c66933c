"""Whether the side of a cancer and its boxes agree."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.boxes_to_mask import covered_voxels
from transforms.labelled_boxes import box_table, labelled_boxes
from transforms.scan_error import ScanError, scan_name
from transforms.separate_lungs import LEFT, RIGHT

# Of a box's voxels; one at the midline may touch the lung beyond it.
SMALLEST_SHARE = 0.5
# A large tumour is no lung in HU, so that its box holds little of the lung it lies in.
MARGIN_MM, SMALLEST_SHARE_AROUND = 10.0, 0.1

logger = logging.getLogger(__name__)


def check_side(boxes: Any, side: str, *, lungs: MetaTensor, image: MetaTensor) -> None:
    """Refuse a side that the boxes contradict, and report a box that touches no lung.

    ``left`` or ``right`` is contradicted where every box lies in the other lung and has no voxel
    of the lung named: half of the box or more is that other lung, or 10 mm around the box a tenth
    or more is, and still nothing is of the lung named, which the scan has elsewhere. A cancer of
    the pleura or the mediastinum may touch no lung, so that is a warning.

    Args:
        boxes: of the cancer, ``(N, 6)`` centre and size in RAS mm; N may be 0.
        side: of the cancer, any of the datalist's words.
        lungs: labels ``(1, H, W, D)`` on the image's grid, 1 the patient's left, 2 the right lung.
        image: the whole scan.

    Raises:
        ScanError: the side is contradicted; names the scan, the side and the first box.
    """
    labels = lungs.as_tensor()[0]
    contradicting = []
    table = box_table(boxes, image)
    for box in table:
        of = dict(zip(("left", "right"), _shares(labels, box, image), strict=True))
        if not any(of.values()):
            logger.warning(
                "%s: the malignant box %s mm touches no lung", scan_name(image), box.tolist()
            )
        elif side in of and of[side] == 0:
            other = "right" if side == "left" else "left"
            if of[other] >= SMALLEST_SHARE or _is_far(labels, box, image, side):
                contradicting.append(box.tolist())
    if contradicting and len(contradicting) == len(table):
        raise ScanError(
            f"{scan_name(image)}: side must be that of a malignant box, got {side} and the box "
            f"{contradicting[0]} mm in the {'right' if side == 'left' else 'left'} lung"
        )


def _is_far(labels: torch.Tensor, box: np.ndarray, image: MetaTensor, side: str) -> bool:
    """Whether 10 mm around a box, too, there is the other lung and none of that named."""
    half = len(box) // 2
    widened = np.concatenate([box[:half], box[half:] + 2 * MARGIN_MM])
    left, right = _shares(labels, widened, image)
    named, other = (left, right) if side == "left" else (right, left)
    found = bool((labels == (LEFT if side == "left" else RIGHT)).any())
    return found and named == 0 and other >= SMALLEST_SHARE_AROUND


def _shares(labels: torch.Tensor, box: np.ndarray, image: MetaTensor) -> tuple[float, float]:
    """Of the voxels that a box covers in the scan, those of the left and of the right lung."""
    ((start, stop),) = covered_voxels(box[None], image)
    pairs = zip(start.clip(min=0).tolist(), stop.clip(min=0).tolist(), strict=True)
    covered = labels[tuple(slice(first, past) for first, past in pairs)]
    voxels = max(covered.numel(), 1)
    return float((covered == LEFT).sum()) / voxels, float((covered == RIGHT).sum()) / voxels


class CheckSided(MapTransform):
    """Dictionary form of :func:`check_side` for the boxes of one label, before any crop."""

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        image_key: str = "image",
        *,
        side_key: str = "side",
        label_key: str = "box_labels",
        keep_label: int = 1,
        lungs_key: str = "lungs",
    ) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.side_key = side_key
        self.label_key = label_key
        self.keep_label = keep_label
        self.lungs_key = lungs_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image = sample[self.image_key]
        for key in self.key_iterator(sample):
            kept = labelled_boxes(
                sample[key], sample[self.label_key], label=self.keep_label, image=image
            )
            check_side(kept, sample[self.side_key], lungs=sample[self.lungs_key], image=image)
        return sample
