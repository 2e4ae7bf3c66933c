"""Boxes between world millimetres and an image's voxels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.labelled_boxes import box_table
from transforms.scan_error import ScanError, scan_name
from transforms.square_affine import square_affine


def boxes_to_voxels(boxes_mm: Any, affine: torch.Tensor) -> torch.Tensor:
    """World boxes as corners on the grid, in which voxel i covers [i, i + 1); nothing is rounded.

    Under an oblique affine the box's hull along the voxel axes. The frame is whichever the affine
    leads to, RAS or LPS.

    Args:
        boxes_mm: ``(N, 2 * spatial_dims)`` centre and size in mm (cccwhd, in 2D ccwh).
        affine: of an image, voxel to the boxes' frame; 4x4 or, in 2D, also 3x3.

    Returns:
        Float64 ``(N, 2 * spatial_dims)``, low corner first (xyzxyz, in 2D xyxy).
    """
    boxes = torch.as_tensor(boxes_mm, dtype=torch.float64)
    centre, size = boxes.chunk(2, dim=1)
    world_to_voxel = _matching_affine(affine, boxes).inverse()
    # An affine points at the middle of a voxel.
    middle = _moved(centre, world_to_voxel) + 0.5
    half = _hull(size, world_to_voxel) / 2
    return torch.cat((middle - half, middle + half), dim=1)


def boxes_to_world(boxes_voxel: Any, affine: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`boxes_to_voxels`, under an oblique affine again the hull.

    Args:
        boxes_voxel: ``(N, 2 * spatial_dims)`` corners on the grid, low corner first.
        affine: of the image, voxel to world; 4x4 or, in 2D, also 3x3.

    Returns:
        Float64 ``(N, 2 * spatial_dims)``, centre and size in mm.
    """
    boxes = torch.as_tensor(boxes_voxel, dtype=torch.float64)
    low, high = boxes.chunk(2, dim=1)
    voxel_to_world = _matching_affine(affine, boxes)
    centre = _moved((low + high) / 2 - 0.5, voxel_to_world)
    return torch.cat((centre, _hull(high - low, voxel_to_world)), dim=1)


def boxes_ras_lps(boxes_mm: Any) -> torch.Tensor:
    """World boxes (cccwhd, in 2D ccwh) from RAS to LPS, or from LPS to RAS, which is the same."""
    boxes = torch.as_tensor(boxes_mm, dtype=torch.float64).clone()
    boxes[:, :2] *= -1
    return boxes


def _matching_affine(affine: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    return square_affine(affine, boxes.shape[1] // 2).to(boxes.device)


def _moved(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    return points @ affine[:-1, :-1].T + affine[:-1, -1]


def _hull(sizes: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Sizes of the hulls of boxes whose axes an affine has turned."""
    return sizes @ affine[:-1, :-1].abs().T


class BoxesToVoxelsd(MapTransform):
    """A detector's targets from a sample's world boxes, whatever their label.

    Boxes are placed by the image's affine as it is now, after any spacing, crop or flip, so this
    comes last. It writes:

    - ``boxes_voxel``: float32 ``(max_boxes, 2 * spatial_dims)``, :func:`boxes_to_voxels` of those
      whose centre lies in the image, uncut, and rows of zeros
    - ``box_count``: how many there are
    - ``lost_boxes``: how many are left out since their centre lies outside of the image
    - ``spacing_mm``: float32 ``(spatial_dims,)`` of the image

    Args:
        keys: the one key of the boxes in RAS mm.
        image_key: whose grid they are placed on.
        max_boxes: rows of the table, so that samples make a batch.

    Raises of a call:
        ScanError: more boxes in the image than rows, or as :func:`transforms.boxes_to_mask`.
    """

    def __init__(
        self, keys: KeysCollection = "boxes", image_key: str = "image", *, max_boxes: int
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one list of boxes, got {self.keys}")
        if max_boxes < 1:
            raise ValueError(f"max_boxes must be at least 1, got {max_boxes}")
        self.image_key = image_key
        self.max_boxes = max_boxes

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        image: MetaTensor = sample[self.image_key]
        boxes = boxes_to_voxels(box_table(sample[self.keys[0]], image), image.affine)
        kept = boxes[is_centre_inside(boxes, image)]
        if len(kept) > self.max_boxes:
            raise ScanError(
                f"{scan_name(image)}: at most max_boxes = {self.max_boxes} boxes may lie in the "
                f"image, got {len(kept)}"
            )
        table = torch.zeros((self.max_boxes, boxes.shape[1]))
        table[: len(kept)] = kept
        rank = image.ndim - 1
        sample["boxes_voxel"] = table
        sample["box_count"] = len(kept)
        sample["lost_boxes"] = len(boxes) - len(kept)
        sample["spacing_mm"] = square_affine(image.affine, rank)[:-1, :-1].norm(dim=0).float()
        return sample


def is_centre_inside(boxes_voxel: torch.Tensor, image: MetaTensor) -> torch.Tensor:
    """Bool ``(N,)``, whether the centre of each box ``(N, 2 * spatial_dims)`` lies in the image."""
    low, high = boxes_voxel.chunk(2, dim=1)
    centre = (low + high) / 2
    return ((centre >= 0) & (centre < torch.tensor(image.shape[1:]))).all(dim=1)
