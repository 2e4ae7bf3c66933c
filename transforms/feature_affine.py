"""Where the cells of a feature grid lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def feature_affine(
    image_affine: torch.Tensor, image_shape: Sequence[int], feature_shape: Sequence[int]
) -> torch.Tensor:
    """The affine of a feature grid that covers the same field as the image.

    Of ``n`` voxels and ``m`` cells along an axis, cell ``j`` covers voxel cells
    ``[j * n / m, (j + 1) * n / m)``; the affine points at its centre.

    Args:
        image_affine: 4x4 or, in 2D, 3x3; voxel to RAS mm.
        image_shape: spatial shape ``(H, W[, D])``.
        feature_shape: spatial shape ``(h, w[, d])``.

    Returns:
        Float64 affine of the same size, feature cell to RAS mm.
    """
    if len(image_shape) != len(feature_shape):
        raise ValueError(
            f"image_shape and feature_shape must have the same length, "
            f"got {tuple(image_shape)} and {tuple(feature_shape)}"
        )
    affine = torch.as_tensor(image_affine, dtype=torch.float64)
    cell_to_voxel = torch.eye(len(affine), dtype=torch.float64, device=affine.device)
    for axis, (size, cells) in enumerate(zip(image_shape, feature_shape, strict=True)):
        scale = size / cells
        cell_to_voxel[axis, axis] = scale
        cell_to_voxel[axis, -1] = (scale - 1) / 2
    return affine @ cell_to_voxel
