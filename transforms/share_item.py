"""One volume under two names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Transform


class ShareItemd(Transform):
    """The volume of a key under a second name too, such as the whole scan before it is cropped.

    MONAI's CopyItemsd copies the values. Here both have the same ones, each with its own affine
    and metadata: for volumes that no later transform changes in place.
    """

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        volume = data[self.key]
        meta = {**volume.meta, "affine": volume.affine.clone()}
        return {**data, self.name: MetaTensor(volume.as_tensor(), meta=meta)}
