from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.boxes_to_mask import boxes_to_mask


class CheckBoxesd(MapTransform):
    def __init__(self, keys: KeysCollection = "boxes", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            boxes_to_mask(sample[key], sample[self.image_key])
        return sample
