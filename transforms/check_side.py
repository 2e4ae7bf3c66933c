"""Whether the side of a cancer and its boxes agree."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.boxes_to_mask import covered_voxels
from transforms.labelled_boxes import labelled_boxes
from transforms.scan_error import ScanError, scan_name
from transforms.separate_lungs import LEFT, RIGHT

# Of a box's voxels; one at the midline may touch the lung beyond it.
SMALLEST_SHARE = 0.5

logger = logging.getLogger(__name__)


def check_side(boxes: Any, side: str, *, lungs: MetaTensor, image: MetaTensor) -> None:
    """Refuse a side that the boxes contradict, and report a box that touches no lung.

    ``left`` or ``right`` is contradicted where every box lies in the other lung: half of its
    voxels or more belong to that one and none to the lung named. A cancer of the pleura or the
    mediastinum may touch no lung, so that is a warning.

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
    ranges = list(covered_voxels(boxes, image))
    for box, (start, stop) in zip(np.asarray(boxes, float).tolist(), ranges, strict=True):
        pairs = zip(start.clip(min=0).tolist(), stop.clip(min=0).tolist(), strict=True)
        covered = labels[tuple(slice(first, past) for first, past in pairs)]
        left, right = int((covered == LEFT).sum()), int((covered == RIGHT).sum())
        if not left + right:
            logger.warning("%s: the malignant box %s mm touches no lung", scan_name(image), box)
        elif side in ("left", "right"):
            named, other = (left, right) if side == "left" else (right, left)
            if named == 0 and other >= SMALLEST_SHARE * covered.numel():
                contradicting.append(box)
    if contradicting and len(contradicting) == len(ranges):
        raise ScanError(
            f"{scan_name(image)}: side must be that of a malignant box, got {side} and the box "
            f"{contradicting[0]} mm in the {'right' if side == 'left' else 'left'} lung"
        )


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
