from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop, SpatialPad

from transforms.check_geometry import check_geometry
from transforms.lung_side_mask import lung_side_mask
from transforms.scan_error import scan_name

AIR_HU = -1024.0

logger = logging.getLogger(__name__)


def lungs_box(
    lungs: MetaTensor, *, margin_mm: float, divisor: Sequence[int]
) -> tuple[list[int], list[int]]:
    """First and past-the-last voxel of the lungs' bounding box with a margin, ``(H, W, D)``.

    Each size is rounded up to a multiple of ``divisor`` and the box shifted to stay inside; where
    the scan itself is too short for that, the box reaches past its end. The whole scan, rounded
    up likewise, where the mask is empty.
    """
    shape = lungs.shape[1:]
    spacing_mm = lungs.affine[:3, : len(shape)].norm(dim=0).tolist()
    plain = lungs.as_tensor()[0] > 0
    starts, stops = [], []
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(len(shape)) if other != axis)
        found = torch.nonzero(plain.amax(dim=others)).flatten().tolist() or [0, size - 1]
        margin = int(np.ceil(margin_mm / spacing_mm[axis]))
        start, stop = max(0, found[0] - margin), min(size, found[-1] + 1 + margin)
        rounded = -(-(stop - start) // divisor[axis]) * divisor[axis]
        start = max(0, min(start, size - rounded))
        starts.append(start)
        stops.append(start + rounded)
    return starts, stops


class CropToLungsd(MapTransform):
    """Crops all keys to the lungs' bounding box and a margin, with sizes a network divides.

    MONAI's CropForegroundd takes its margin in voxels, the same for every scan, and pads where
    it could shift; this takes it in mm and leaves the cropping and padding to MONAI. Where a scan
    is too short to be divided it is padded at the end, the image with -1024 HU and other keys
    with 0. No lungs found: the whole scan is kept, with a warning. Boxes in world mm stay as they
    are.

    Args:
        keys: volumes ``(C, H, W, D)`` to crop, the image among them.
        image_key: the CT in HU.
        margin_mm: beyond the lungs on each side.
        divisor: of the cropped sizes, one for each axis.
        lungs_key: a lung mask or label map on the image's grid; without it, or in a sample that
            lacks it, the lungs come from HU.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        *,
        margin_mm: float = 10.0,
        divisor: Sequence[int] = (16, 16, 16),
        lungs_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if margin_mm < 0 or min(divisor) < 1:
            raise ValueError(
                f"margin_mm must be at least 0 and divisor at least 1, "
                f"got {margin_mm} and {tuple(divisor)}"
            )
        self.image_key = image_key
        self.margin_mm = margin_mm
        self.divisor = tuple(divisor)
        self.lungs_key = lungs_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image = sample[self.image_key]
        lungs = sample.get(self.lungs_key)
        if lungs is None:
            lungs = lung_side_mask(image, "both")
        else:
            check_geometry(lungs, image)
        if not lungs.any():
            logger.warning("%s: no lungs found, the whole scan is kept", scan_name(image))
        start, stop = lungs_box(lungs, margin_mm=self.margin_mm, divisor=self.divisor)
        crop = SpatialCrop(roi_start=start, roi_end=stop)
        size = [last - first for first, last in zip(start, stop, strict=True)]
        for key in self.key_iterator(sample):
            fill = AIR_HU if key == self.image_key else 0.0
            pad = SpatialPad(size, method="end", mode="constant", value=fill)
            sample[key] = pad(crop(sample[key]))
        return sample
