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
from transforms.scan_error import ScanError, scan_name
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
    mask = torch.zeros((1, *image.shape[1:]), dtype=torch.uint8)
    for index, (start, stop) in enumerate(covered_voxels(boxes, image)):
        if is_outside(start, stop, image):
            logger.warning("%s: box %d lies outside of the crop", scan_name(image), index)
            continue
        pairs = zip(start.clip(min=0).tolist(), stop.tolist(), strict=True)
        mask[0][tuple(slice(first, past) for first, past in pairs)] = 1
    return derived_volume(mask, image.affine, image)


def covered_voxels(boxes: Any, image: MetaTensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """First and past-the-last voxel of each box along every axis; may lie outside of the image."""
    rank = image.ndim - 1
    world_to_voxel = square_affine(image.affine, rank).inverse().numpy()
    for box in _table(boxes, rank, image):
        low_voxel, high_voxel = _hull_voxel(box, world_to_voxel)
        tolerance = np.minimum(TOLERANCE_VOXEL, (high_voxel - low_voxel) / 4)
        start = np.floor(low_voxel + tolerance - 0.5).astype(int) + 1
        stop = np.ceil(high_voxel - tolerance + 0.5).astype(int)
        yield start, stop


def is_outside(start: np.ndarray, stop: np.ndarray, image: MetaTensor) -> bool:
    """Whether a range of voxels has none in common with the image."""
    return bool((stop <= 0).any() or (start >= image.shape[1:]).any())


def _table(boxes: Any, rank: int, image: MetaTensor) -> np.ndarray:
    table = np.asarray(boxes, float)
    if table.size == 0:
        return np.zeros((0, 2 * rank))
    if table.ndim != 2 or table.shape[1] != 2 * rank:
        raise ScanError(
            f"{scan_name(image)}: boxes must have shape (N, {2 * rank}), got {table.shape}"
        )
    for index, box in enumerate(table):
        if not np.isfinite(box).all() or not (box[rank:] > 0).all():
            raise ScanError(
                f"{scan_name(image)}: box {index} must be finite with a size above zero, "
                f"got {box.tolist()} mm"
            )
    return table


def _hull_voxel(box: np.ndarray, world_to_voxel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rank = len(box) // 2
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=rank)))
    corners_mm = box[:rank] + signs * box[rank:]
    corners = corners_mm @ world_to_voxel[:rank, :rank].T + world_to_voxel[:rank, -1]
    return corners.min(axis=0), corners.max(axis=0)


class BoxesToMaskd(MapTransform):
    """Dictionary form of :func:`boxes_to_mask`, of the boxes with one label only.

    The attention's target is the cancer, so benign boxes are left out; ``output_key`` gets the
    mask, empty where no such box is, and ``lost_key`` the number of those outside of the image.
    """

    def __init__(
        self,
        keys: KeysCollection = "boxes",
        image_key: str = "image",
        *,
        label_key: str = "box_labels",
        keep_label: int = 1,
        output_key: str = "box_mask",
        lost_key: str = "lost_boxes",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one list of boxes, got {self.keys}")
        self.image_key = image_key
        self.label_key = label_key
        self.keep_label = keep_label
        self.output_key = output_key
        self.lost_key = lost_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image, boxes = sample[self.image_key], sample[self.keys[0]]
        labels = sample[self.label_key]
        if len(labels) != len(boxes):
            raise ScanError(
                f"{scan_name(image)}: {self.label_key} must have one label for each box, "
                f"got {len(labels)} for {len(boxes)}"
            )
        kept = [box for box, label in zip(boxes, labels, strict=True) if label == self.keep_label]
        sample[self.output_key] = boxes_to_mask(kept, image)
        sample[self.lost_key] = sum(
            is_outside(start, stop, image) for start, stop in covered_voxels(kept, image)
        )
        return sample
