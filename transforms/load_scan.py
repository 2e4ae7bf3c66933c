"""Scans from files, in HU and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.read_volume import read_volume
from transforms.scan_error import ScanError

LOWEST_HU, HIGHEST_HU = -32768.0, 32767.0
HU_SCALE_PROOF = -500.0  # values on both sides of it show that they are HU


def load_scan(path: str | Path, spatial_dims: int = 3, *, keep_int16: bool = False) -> MetaTensor:
    """Reads a chest CT in HU (3D) or a single image (2D) and checks it.

    Spacing comes from the affine and slice positions only. In 3D the values must be HU: within
    int16, with air below -500 and tissue above it; padding of -2048 is fine. A 2D image (a
    mammogram) has no HU and no such rule.

    Args:
        path: NIfTI, MetaImage or DICOM series folder; in 2D also a single DICOM file.
        spatial_dims: 3 or 2.
        keep_int16: leaves HU that a NIfTI holds as plain int16 as they are, at half the memory.

    Returns:
        Float32 (or int16) ``(1, H, W, D)`` or ``(1, H, W)`` with the affine from voxel to RAS mm,
        and the same few metadata whatever the format.

    Raises:
        ScanError: one sentence with file, rule and value.
    """
    array, affine = read_volume(path, spatial_dims, keep_int16=keep_int16)
    if spatial_dims == 3:
        _check_hu(path, array)
    return as_metatensor(array, affine, path)


def as_metatensor(array: np.ndarray, affine: np.ndarray, path: str | Path) -> MetaTensor:
    """A channel-first MetaTensor that carries its file, original affine and spatial shape."""
    matrix = torch.as_tensor(affine, dtype=torch.float64)
    meta = {
        "filename_or_obj": str(path),
        "original_affine": matrix.clone(),
        "spatial_shape": np.asarray(array.shape),
    }
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], matrix, meta)


def _check_hu(path: str | Path, array: np.ndarray) -> None:
    low, high = float(array.min()), float(array.max())
    if low < LOWEST_HU or high > HIGHEST_HU:
        raise ScanError(
            f"{path}: HU must lie within {LOWEST_HU:g} and {HIGHEST_HU:g}, got {low:g} to {high:g}"
        )
    if not low < HU_SCALE_PROOF < high:
        raise ScanError(
            f"{path}: a chest CT in HU must hold air below {HU_SCALE_PROOF:g} and tissue above it, "
            f"got values from {low:g} to {high:g}"
        )


class LoadScand(MapTransform):
    """Dictionary form of :func:`load_scan`: replaces a path by its scan."""

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int = 3,
        allow_missing_keys: bool = False,
        *,
        keep_int16: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims
        self.keep_int16 = keep_int16

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = load_scan(sample[key], self.spatial_dims, keep_int16=self.keep_int16)
        return sample
