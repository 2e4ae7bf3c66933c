"""How far the cells of a feature grid lie from the nearest lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from transforms.derived_volume import derived_volume
from transforms.feature_affine import feature_affine
from transforms.labelled_boxes import labelled_boxes
from transforms.square_affine import square_affine


def distance_to_boxes(
    boxes: Any,
    affine: torch.Tensor,
    spatial_shape: Sequence[int],
    feature_shape: Sequence[int],
) -> torch.Tensor:
    """Millimetres from the centre of each feature cell to the nearest box, 0 inside one.

    Boxes stand along the axes of RAS space whatever the orientation of the image.

    Args:
        boxes: ``(N, 2 * spatial_dims)`` centre and size in RAS mm (cccwhd, in 2D ccwh); N may be 0.
        affine: of the image, voxel to RAS mm.
        spatial_shape: of the image, ``(H, W[, D])``.
        feature_shape: of the grid that covers the same field, ``(h, w[, d])``.

    Returns:
        Float32 ``(1, *feature_shape)``, infinite without a box.
    """
    rank = len(spatial_shape)
    cells = feature_affine(square_affine(affine, rank), spatial_shape, feature_shape).numpy()
    index = np.indices(tuple(feature_shape)).reshape(rank, -1)
    centres_mm = cells[:rank, :rank] @ index + cells[:rank, -1:]
    nearest_mm = np.full(centres_mm.shape[1], np.inf)
    for box in np.asarray(boxes, float).reshape(-1, 2 * rank, 1):
        beyond_mm = np.maximum(np.abs(centres_mm - box[:rank]) - box[rank:] / 2, 0)
        np.minimum(nearest_mm, np.linalg.norm(beyond_mm, axis=0), out=nearest_mm)
    return torch.from_numpy(nearest_mm).float().reshape(1, *feature_shape)


class BoxDistanceMapd(MapTransform):
    """Dictionary form of :func:`distance_to_boxes` for the boxes of one label.

    The grid is that of ``mask_key``, a mask that :class:`transforms.DownsampleMaskd` has made.
    Boxes that a crop has lost count too: they are where the cancer is.
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        image_key: str = "image",
        *,
        mask_key: str = "box_mask",
        label_key: str = "box_labels",
        keep_label: int = 1,
        output_key: str = "box_distance_mm",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one list of boxes, got {self.keys}")
        self.image_key = image_key
        self.mask_key = mask_key
        self.label_key = label_key
        self.keep_label = keep_label
        self.output_key = output_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image, mask = sample[self.image_key], sample[self.mask_key]
        kept = labelled_boxes(
            sample[self.keys[0]], sample[self.label_key], label=self.keep_label, image=image
        )
        distance_mm = distance_to_boxes(kept, image.affine, image.shape[1:], mask.shape[1:])
        sample[self.output_key] = derived_volume(distance_mm, mask.affine, mask)
        return sample
