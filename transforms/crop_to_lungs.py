"""A scan cropped to its lungs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop
from nibabel.orientations import io_orientation

from transforms.body_half_mask import body_half_mask
from transforms.find_lungs import find_lungs
from transforms.scan_error import scan_name
from transforms.separate_lungs import LEFT, RIGHT

SMALLEST_LUNG_SHARE = 0.25  # of the other lung's volume

logger = logging.getLogger(__name__)


def lungs_box(lungs: MetaTensor, image: MetaTensor) -> list[tuple[int, int]]:
    """First and past-the-last voxel of both lungs along every axis.

    A lung that is white, collapsed or removed leaves little or no air, yet its side may hold the
    cancer. So where one has less than a quarter of the other's volume, the box keeps the body's
    whole left-right extent; where both are missing, the whole scan. Either leaves a warning.

    Args:
        lungs: ``(1, H, W, D)``, 1 the patient's left and 2 the right lung.
        image: the CT ``(1, H, W, D)`` in HU on the same grid.
    """
    labels = lungs.as_tensor()[0]
    voxels = {"left": int((labels == LEFT).sum()), "right": int((labels == RIGHT).sum())}
    smaller, larger = sorted(voxels, key=voxels.__getitem__)
    if voxels[larger] == 0:
        logger.warning("%s: no lungs found, the whole scan is kept", scan_name(image))
        return [(0, size) for size in labels.shape]
    box = _extents(labels > 0)
    if voxels[smaller] < SMALLEST_LUNG_SHARE * voxels[larger]:
        logger.warning(
            "%s: the %s lung has %.0f %% of the other's volume, the body's full width is kept",
            scan_name(image),
            smaller,
            100 * voxels[smaller] / voxels[larger],
        )
        left_right = int(np.argwhere(io_orientation(image.affine.cpu().numpy())[:, 0] == 0)[0, 0])
        body = body_half_mask(image, "both").as_tensor()[0]
        box[left_right] = _extents((body > 0) | (labels > 0))[left_right]
    return box


def _extents(mask: torch.Tensor) -> list[tuple[int, int]]:
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = torch.nonzero(mask.amax(dim=others)).flatten().tolist()
        box.append((found[0], found[-1] + 1))
    return box


class CropToLungsd(MapTransform):
    """Crops all keys to the lungs' bounding box (:func:`lungs_box`) and a margin.

    MONAI's CropForegroundd takes its margin in voxels, the same for every scan, and knows no
    missing lung; this takes it in mm and leaves the cropping to MONAI. Boxes in world mm stay as
    they are.

    Args:
        keys: volumes ``(C, H, W, D)`` to crop, the image among them.
        image_key: the CT in HU.
        margin_mm: beyond the lungs on each side.
        lungs_key: a label map on the image's grid, 1 the patient's left and 2 the right lung;
            without it, or in a sample that lacks it, the lungs come from HU.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        *,
        margin_mm: float = 10.0,
        lungs_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if margin_mm < 0:
            raise ValueError(f"margin_mm must be at least 0, got {margin_mm}")
        self.image_key = image_key
        self.margin_mm = margin_mm
        self.lungs_key = lungs_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image = sample[self.image_key]
        lungs = find_lungs(image, sample.get(self.lungs_key))
        start, stop = np.array(lungs_box(lungs, image)).T
        spacing_mm = image.affine[:3, :3].norm(dim=0).cpu().numpy()
        margin = np.ceil(self.margin_mm / spacing_mm).astype(int)
        # SpatialCrop clips what reaches past the end.
        crop = SpatialCrop(roi_start=(start - margin).clip(min=0), roi_end=stop + margin)
        for key in self.key_iterator(sample):
            sample[key] = crop(sample[key])
        return sample
