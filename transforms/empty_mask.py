"""Masks of scans without a nodule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from transforms.derived_volume import derived_volume
from transforms.scan_error import ScanError, scan_name


def empty_mask(image: MetaTensor) -> MetaTensor:
    """An int16 mask ``(1, *spatial)`` of 0 on the grid of an image ``(C, *spatial)``."""
    background = torch.zeros((1, *image.shape[1:]), dtype=torch.int16, device=image.device)
    return derived_volume(background, image.affine, image)


class EmptyMaskd(Transform):
    """Gives a sample that has no mask an empty one, if it lists no nodule.

    Args:
        key: of the mask.
        image_key: whose grid the mask is on.
        box_key: the sample's boxes; a sample that lists one must bring its mask.

    Raises of a call:
        ScanError: boxes but no mask.
    """

    def __init__(
        self, key: str = "mask", image_key: str = "image", *, box_key: str = "boxes"
    ) -> None:
        self.key = key
        self.image_key = image_key
        self.box_key = box_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        if self.key in sample:
            return sample
        image = sample[self.image_key]
        boxes = sample.get(self.box_key, [])
        if len(boxes):
            raise ScanError(
                f"{scan_name(image)}: a scan with nodules must have a {self.key} in the datalist, "
                f"got {len(boxes)} boxes and no {self.key}"
            )
        sample[self.key] = empty_mask(image)
        return sample
