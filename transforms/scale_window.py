"""A window of values brought to 0 to 1."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform


def scale_window(volume: MetaTensor, low: float, high: float) -> MetaTensor:
    """``low`` to 0, ``high`` to 1, linear between them and cut off beyond.

    What MONAI's ``ScaleIntensityRange`` gives, with one new volume where that makes five.

    Args:
        volume: of any shape and type, HU for a CT; stays as it is.
        low: value of 0.
        high: value of 1.

    Returns:
        Float32 of the same shape.

    Raises:
        ValueError: ``low`` is not below ``high``.
    """
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    values = volume.as_tensor()
    scaled = torch.sub(values if values.is_floating_point() else values.float(), low)
    scaled = scaled.float().div_(high - low).clamp_(0, 1)
    return MetaTensor(scaled, meta=dict(volume.meta), applied_operations=volume.applied_operations)


class ScaleWindowd(MapTransform):
    """Dictionary form of :func:`scale_window`."""

    def __init__(self, keys: KeysCollection, *, low: float, high: float) -> None:
        super().__init__(keys)
        self.low, self.high = low, high

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = scale_window(sample[key], self.low, self.high)
        return sample
