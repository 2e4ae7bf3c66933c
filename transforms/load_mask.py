"""Label maps from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.load_scan import as_metatensor
from transforms.read_volume import read_volume
from transforms.scan_error import ScanError


def load_mask(path: str | Path, spatial_dims: int = 3) -> MetaTensor:
    """Reads a label map (lesion instances, lungs) as int16 ``(1, H, W, D)`` or ``(1, H, W)``.

    Raises:
        ScanError: what :func:`read_volume` refuses, or labels that are not whole numbers within
            0 and 32767.
    """
    array, affine = read_volume(path, spatial_dims)
    labels = array.astype(np.int16)
    if labels.min() < 0 or not np.array_equal(labels, array):
        raise ScanError(
            f"{path}: labels must be whole numbers within 0 and 32767, "
            f"got values from {array.min():g} to {array.max():g}"
        )
    return as_metatensor(labels, affine, path)


class LoadMaskd(MapTransform):
    """Dictionary form of :func:`load_mask`: replaces a path by its label map."""

    def __init__(
        self, keys: KeysCollection, spatial_dims: int = 3, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = load_mask(sample[key], self.spatial_dims)
        return sample
