"""Random white noise on a patch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform


def gaussian_noise(image: MetaTensor, std: float, seed: int) -> MetaTensor:
    """The image and white noise, drawn as float32 where MONAI's draws twice that.

    Args:
        image: of any shape; stays as it is.
        std: of the noise, in the image's units.
        seed: the same gives the same noise on one kind of device.

    Returns:
        Float32 of the same shape.
    """
    if std < 0:
        raise ValueError(f"std must be 0 or more, got {std}")
    values = image.as_tensor()
    generator = torch.Generator(device=values.device).manual_seed(seed)
    noise = torch.randn(values.shape, generator=generator, device=values.device)
    noisy = noise.mul_(std).add_(values)
    return MetaTensor(noisy, meta=dict(image.meta), applied_operations=image.applied_operations)


class RandNoised(RandomizableTransform, MapTransform):
    """:func:`gaussian_noise` with chance ``prob``, as MONAI's ``RandGaussianNoised`` draws it.

    Args:
        keys: images; those of one shape get the same noise.
        max_std: the standard deviation is drawn evenly between 0 and this.
        prob: chance of a sample to get noise.
    """

    def __init__(self, keys: KeysCollection, *, max_std: float, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if max_std < 0:
            raise ValueError(f"max_std must be 0 or more, got {max_std}")
        self.max_std = max_std
        self.std, self.seed = 0.0, 0

    def randomize(self, data: Any = None) -> None:
        super().randomize(data)
        if self._do_transform:
            self.std = float(self.R.uniform(0, self.max_std))
            self.seed = int(self.R.randint(2**31))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        self.randomize()
        if self._do_transform:
            for key in self.key_iterator(sample):
                sample[key] = gaussian_noise(sample[key], self.std, self.seed)
        return sample
