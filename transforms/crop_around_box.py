"""Random patches for a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from transforms.boxes_to_voxels import boxes_to_voxels, is_centre_inside
from transforms.labelled_boxes import box_table
from transforms.scan_error import ScanError, scan_name
from transforms.stored_volume import crop_volume


class CropAroundBoxd(Randomizable, MapTransform):
    """Crops all keys to one random patch, of which a given share holds a box.

    A patch that is to hold a box is drawn from all places at which it holds the whole box or, if
    that does not fit, its centre, whichever of the scan's boxes was drawn; else, and in a scan
    without a box, from all places in the image. Boxes in world mm stay as they are.

    Args:
        keys: volumes ``(C, *spatial)`` to crop, the image among them; of a :class:`StoredVolume`
            no more than the patch is read.
        patch_shape: voxels along every axis.
        positive_share: probability that a box is asked for, 0 to 1.
        image_key: whose grid the patch is on.
        box_key: the boxes in RAS mm.

    Raises of a call:
        ScanError: an image smaller than the patch, or as :func:`transforms.boxes_to_mask`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        patch_shape: Sequence[int],
        positive_share: float,
        *,
        image_key: str = "image",
        box_key: str = "boxes",
    ) -> None:
        super().__init__(keys)
        if not 0 <= positive_share <= 1:
            raise ValueError(f"positive_share must lie between 0 and 1, got {positive_share}")
        self.patch_shape = np.array(patch_shape, int)
        if not (self.patch_shape > 0).all():
            raise ValueError(f"patch_shape must be above 0 along every axis, got {patch_shape}")
        self.positive_share = positive_share
        self.image_key = image_key
        self.box_key = box_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        start = self._random_start(sample[self.image_key], sample[self.box_key])
        for key in self.key_iterator(sample):
            sample[key] = crop_volume(sample[key], start, start + self.patch_shape)
        return sample

    def _random_start(self, image: MetaTensor, boxes_mm: Any) -> np.ndarray:
        """First voxel of the patch along every axis."""
        shape = np.array(image.shape[1:])
        if len(shape) != len(self.patch_shape) or (shape < self.patch_shape).any():
            raise ScanError(
                f"{scan_name(image)}: the image must be at least as large as a patch of "
                f"{self.patch_shape.tolist()} voxels, got {shape.tolist()}"
            )
        boxes = boxes_to_voxels(box_table(boxes_mm, image), image.affine)
        inside = boxes[is_centre_inside(boxes, image)].numpy()
        first, last = np.zeros_like(shape), shape - self.patch_shape
        if len(inside) and self.R.random() < self.positive_share:
            low, high = np.split(inside[self.R.randint(len(inside))], 2)
            centre = np.floor((low + high) / 2)
            earliest, latest = self._starts(low.clip(min=0), high.clip(max=shape), last)
            fits = earliest <= latest
            first, last = self._starts(centre, centre + 1, last)
            first, last = np.where(fits, earliest, first), np.where(fits, latest, last)
        return self.R.randint(first, last + 1)

    def _starts(
        self, low: np.ndarray, high: np.ndarray, last: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """First and last start, from 0 to ``last``, of the patches that cover ``low`` to ``high``;
        the first is above the last where there is none."""
        first = (np.ceil(high) - self.patch_shape).clip(min=0)
        return first.astype(int), np.minimum(np.floor(low), last).astype(int)
