"""Whether boxes lie in their scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.boxes_to_mask import covered_voxels, is_outside
from transforms.scan_error import ScanError, scan_name


def check_boxes(boxes: Any, image: MetaTensor) -> None:
    """Refuse boxes that do not lie in the scan, as those of another scan or frame do not.

    Args:
        boxes: ``(N, 2 * spatial_dims)`` centre and size in RAS mm; N may be 0.
        image: the whole scan ``(C, *spatial)`` with its affine.

    Raises:
        ScanError: a box wholly outside the scan, or as :func:`transforms.boxes_to_mask`.
    """
    shape = tuple(image.shape[1:])
    for index, (start, stop) in enumerate(covered_voxels(boxes, image)):
        if is_outside(start, stop, image):
            raise ScanError(
                f"{scan_name(image)}: box {index} must lie inside the scan of shape {shape}, got "
                f"voxels {start.tolist()} to {(stop - 1).tolist()} from {list(boxes[index])} mm"
            )


class CheckBoxesd(MapTransform):
    """Dictionary form of :func:`check_boxes`, for the scan before it is cropped."""

    def __init__(self, keys: KeysCollection = "boxes", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            check_boxes(sample[key], sample[self.image_key])
        return sample
