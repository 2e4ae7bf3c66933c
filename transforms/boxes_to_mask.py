"""Boxes in world millimetres as a mask on the image's grid."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.derived_volume import derived_volume
from transforms.labelled_boxes import box_table, labelled_boxes
from transforms.scan_error import scan_name
from transforms.square_affine import square_affine

TOLERANCE_VOXEL = 1e-3

logger = logging.getLogger(__name__)


def boxes_to_mask(boxes: Any, image: MetaTensor) -> MetaTensor:
    """The voxels that boxes cover, as one binary mask on the image's grid.

    A voxel belongs when its cell overlaps the box by more than 1e-3 voxel along every axis, so
    edges on cell faces are exact. Under an oblique affine the box's hull along the voxel axes
    counts. What reaches beyond the image is cut off, and a box that a crop has lost leaves a
    warning; :func:`transforms.check_boxes` tells that from a box that never lay in the scan.

    Args:
        boxes: ``(N, 2 * spatial_dims)`` centre and size in RAS mm (cccwhd, in 2D ccwh); N may be 0.
        image: ``(C, *spatial)`` with its affine.

    Returns:
        uint8 ``(1, *spatial)`` with the image's affine.

    Raises:
        ScanError: wrong length, a value that is not finite, or a size not above zero.
    """
    return _drawn(boxes, image, channels=1)[0]


def _drawn(boxes: Any, image: MetaTensor, channels: int) -> tuple[MetaTensor, int]:
    """A channel for each box in the image, the last for all the rest; and how many a crop lost."""
    masks = torch.zeros((channels, *image.shape[1:]), dtype=torch.uint8)
    drawn = lost = 0
    for index, (start, stop) in enumerate(covered_voxels(boxes, image)):
        if is_outside(start, stop, image):
            logger.warning("%s: box %d lies outside of the crop", scan_name(image), index)
            lost += 1
            continue
        pairs = zip(start.clip(min=0).tolist(), stop.tolist(), strict=True)
        masks[min(drawn, channels - 1)][tuple(slice(first, past) for first, past in pairs)] = 1
        drawn += 1
    return derived_volume(masks, image.affine, image), lost


def covered_voxels(boxes: Any, image: MetaTensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and past-the-last voxel of each box along every axis; may lie outside of the image."""
    rank = image.ndim - 1
    world_to_voxel = square_affine(image.affine, rank).inverse().numpy()
    for box in box_table(boxes, image):
        low_voxel, high_voxel = _hull_voxel(box, world_to_voxel)
        tolerance = np.minimum(TOLERANCE_VOXEL, (high_voxel - low_voxel) / 4)
        start = np.floor(low_voxel + tolerance - 0.5).astype(int) + 1
        stop = np.ceil(high_voxel - tolerance + 0.5).astype(int)
        yield start, stop


def is_outside(start: np.ndarray, stop: np.ndarray, image: MetaTensor) -> bool:
    """Whether a range of voxels has none in common with the image."""
    return bool((stop <= 0).any() or (start >= image.shape[1:]).any())


def _hull_voxel(box: np.ndarray, world_to_voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rank = len(box) // 2
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=rank)))
    corners_mm = box[:rank] + signs * box[rank:]
    corners = corners_mm @ world_to_voxel[:rank, :rank].T + world_to_voxel[:rank, -1]
    return corners.min(axis=0), corners.max(axis=0)


class BoxesToMaskd(MapTransform):
    """The lesions of a sample: :func:`boxes_to_mask` with a channel for each box of one label.

    The attention's target is the cancer, so benign boxes are left out. ``output_key`` gets the
    masks ``(lesions, *spatial)`` of the boxes in the image in their order: those beyond the last
    channel share it, channels without a box are empty. ``lost_key`` gets the number of boxes
    outside of the image.

    Args:
        keys: the one key of the boxes.
        image_key: whose grid the masks are on.
        label_key: one label for each box.
        keep_label: which boxes count.
        lesions: how many channels.
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        image_key: str = "image",
        *,
        label_key: str = "box_labels",
        keep_label: int = 1,
        lesions: int = 1,
        output_key: str = "box_mask",
        lost_key: str = "lost_boxes",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one list of boxes, got {self.keys}")
        if lesions < 1:
            raise ValueError(f"lesions must be at least 1, got {lesions}")
        self.image_key = image_key
        self.label_key = label_key
        self.keep_label = keep_label
        self.lesions = lesions
        self.output_key = output_key
        self.lost_key = lost_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image = sample[self.image_key]
        kept = labelled_boxes(
            sample[self.keys[0]], sample[self.label_key], label=self.keep_label, image=image
        )
        sample[self.output_key], sample[self.lost_key] = _drawn(kept, image, self.lesions)
        return sample
