"""Stored volumes no smaller than a patch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class PadStoredd(MapTransform):
    """MONAI's SpatialPadd at the end of the axes, for :class:`StoredVolume`; nothing is read.

    Args:
        keys: stored volumes.
        spatial_size: smallest number of voxels along every axis.
        value: of the padding; for a CT in HU, what the window makes black.
    """

    def __init__(self, keys: KeysCollection, spatial_size: Sequence[int], value: float = 0) -> None:
        super().__init__(keys)
        self.spatial_size = tuple(spatial_size)
        self.value = value

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].padded(self.spatial_size, self.value)
        return sample
