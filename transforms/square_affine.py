"""Affines of one size for 2D and 3D images."""

from __future__ import annotations

import torch


def square_affine(affine: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """The part of an affine that an image's own axes use, ``(spatial_dims + 1)`` square.

    MONAI keeps 4x4 for 2D images too. Float64 on the CPU, voxel to mm.
    """
    square = torch.eye(spatial_dims + 1, dtype=torch.float64)
    square[:spatial_dims, :spatial_dims] = affine[:spatial_dims, :spatial_dims]
    square[:spatial_dims, -1] = affine[:spatial_dims, -1]
    return square
