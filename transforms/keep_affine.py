"""Affines that outlive their volumes' metadata."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform

from transforms.square_affine import square_affine


class KeepAffined(MapTransform):
    """Writes the affine of each volume as it is now, voxel to RAS mm, to ``<key>_affine``.

    A plain float64 tensor ``(spatial_dims + 1, spatial_dims + 1)``, which batches as any other
    target does. It comes last, after whatever moves the volume.

    Args:
        keys: volumes ``(C, *spatial)``.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            volume = sample[key]
            sample[f"{key}_affine"] = square_affine(volume.affine, volume.ndim - 1)
        return sample
