"""Stored volumes read whole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform


class ReadStoredd(MapTransform):
    """Replaces a :class:`StoredVolume` by all of it, a MetaTensor ``(1, *spatial)``.

    Args:
        keys: stored volumes.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = sample[key].whole()
        return sample
