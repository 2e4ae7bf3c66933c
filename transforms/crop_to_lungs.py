"""A scan cropped to its lungs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop
from nibabel.orientations import io_orientation

from transforms.body_half_mask import coarse_body_half
from transforms.coarse_ct import voxels_of_cells
from transforms.find_lungs import find_lungs
from transforms.scan_error import scan_name
from transforms.segment_lungs import segment_lungs
from transforms.separate_lungs import LEFT, RIGHT

SMALLEST_LUNG_SHARE = 0.25  # of the other lung's volume

logger = logging.getLogger(__name__)


def lungs_box(lungs: MetaTensor, image: MetaTensor) -> list[tuple[int, int]]:
    """First and past-the-last voxel of both lungs along every axis.

    A lung that is white, collapsed or removed leaves little or no air, yet its side may hold the
    cancer. So where one has less than a quarter of the other's volume, the box keeps the body's
    whole left-right extent; where both are missing, the whole scan. Either leaves a warning.

    Args:
        lungs: ``(1, h, w, d)``, 1 the patient's left and 2 the right lung, on the image's grid or
            a coarser one of the same field.
        image: the CT ``(1, H, W, D)`` in HU.
    """
    labels = lungs.as_tensor()[0]
    cells = {"left": int((labels == LEFT).sum()), "right": int((labels == RIGHT).sum())}
    smaller, larger = sorted(cells, key=cells.__getitem__)
    if cells[larger] == 0:
        logger.warning("%s: no lungs found, the whole scan is kept", scan_name(image))
        return [(0, size) for size in image.shape[1:]]
    box = _extents(labels, image.shape[1:])
    if cells[smaller] < SMALLEST_LUNG_SHARE * cells[larger]:
        logger.warning(
            "%s: the %s lung has %.0f %% of the other's volume, the body's full width is kept",
            scan_name(image),
            smaller,
            100 * cells[smaller] / cells[larger],
        )
        left_right = int(np.argwhere(io_orientation(image.affine.cpu().numpy())[:, 0] == 0)[0, 0])
        body = coarse_body_half(image, "both").as_tensor()[0]
        if body.any():
            start, stop = _extents(body, image.shape[1:])[left_right]
            box[left_right] = min(start, box[left_right][0]), max(stop, box[left_right][1])
    return box


def _extents(labels: torch.Tensor, shape: Sequence[int]) -> list[tuple[int, int]]:
    """Where a map of the field of ``shape`` voxels is above 0, in voxels along each axis."""
    found = labels > 0
    box = []
    for axis, (voxels, cells) in enumerate(zip(shape, found.shape, strict=True)):
        others = tuple(other for other in range(found.ndim) if other != axis)
        inside = torch.nonzero(found.amax(dim=others)).flatten().tolist()
        box.append(voxels_of_cells(inside[0], inside[-1], voxels=voxels, cells=cells))
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
        given = sample.get(self.lungs_key)
        # Of lungs found from HU the coarse map says as much of the box, and takes no time.
        lungs = segment_lungs(image) if given is None else find_lungs(image, given)
        start, stop = np.array(lungs_box(lungs, image)).T
        spacing_mm = image.affine[:3, :3].norm(dim=0).cpu().numpy()
        margin = np.ceil(self.margin_mm / spacing_mm).astype(int)
        # SpatialCrop clips what reaches past the end.
        crop = SpatialCrop(roi_start=(start - margin).clip(min=0), roi_end=stop + margin)
        for key in self.key_iterator(sample):
            sample[key] = crop(sample[key])
        return sample
