from __future__ import annotations

import torch
from monai.data import MetaTensor

from transforms.derived_volume import derived_volume

ALIGNMENT_TOLERANCE = 1e-3


def attention_to_scan(attention: MetaTensor, scan: MetaTensor) -> MetaTensor:
    """Brings an attention map from the feature grid to the scan's own grid.

    Linear between cell centres, constant in the outer half cell, zero where the feature grid does
    not reach (outside the crop). The axes of the two grids may be swapped, flipped and scaled, as
    reorientation, resampling and cropping leave them; each is resampled on its own, which takes a
    fraction of the time and memory of a sampling grid.

    Args:
        attention: ``(1, h, w[, d])`` with the affine of the feature grid.
        scan: ``(C, H, W[, D])``; only its shape and affine are read.

    Returns:
        Float32 ``(1, H, W[, D])`` with the scan's affine; values are not rescaled.

    Raises:
        ValueError: the feature grid is rotated against the scan's axes.
    """
    shape = tuple(scan.shape[1:])
    rank = len(shape)
    scan_to_cell = _square(attention.affine, rank).inverse() @ _square(scan.affine, rank)
    linear = scan_to_cell[:rank, :rank]
    scan_axes = linear.abs().argmax(dim=1)
    aligned = torch.zeros_like(linear)
    aligned[torch.arange(rank), scan_axes] = linear[torch.arange(rank), scan_axes]
    # Off-axis terms may add up to a fraction of a cell over the whole scan, not more.
    off_cells = float(((linear - aligned).abs() * torch.tensor(shape)).max())
    if off_cells > 0.5 or sorted(scan_axes.tolist()) != list(range(rank)):
        raise ValueError(
            f"the attention's axes must be parallel to the scan's, got {off_cells:.2f} cells off"
        )
    values = attention.as_tensor()[0].float()
    for cell_axis, scan_axis in enumerate(scan_axes.tolist()):
        step, offset = linear[cell_axis, scan_axis], scan_to_cell[cell_axis, -1]
        position = step * torch.arange(shape[scan_axis]) + offset
        weights = _weights(position, values.shape[0], reach=max(1.0, float(step.abs())))
        values = torch.tensordot(values, weights.to(values), dims=([0], [1]))
    # Each product takes the first axis and puts its voxels last, so the order is kept.
    values = values.permute([scan_axes.tolist().index(axis) for axis in range(rank)])
    return derived_volume(values.contiguous()[None], scan.affine, scan)


def _square(affine: torch.Tensor, rank: int) -> torch.Tensor:
    square = torch.eye(rank + 1, dtype=torch.float64)
    square[:rank, :rank] = affine[:rank, :rank]
    square[:rank, -1] = affine[:rank, -1]
    return square


def _weights(position: torch.Tensor, cells: int, reach: float) -> torch.Tensor:
    """Linear weights ``(voxels, cells)`` for voxel centres given in cell coordinates.

    Voxels wider than a cell reach over as many, so that no peak falls between them.
    """
    inside = (position >= -0.5 - 1e-6) & (position <= cells - 0.5 + 1e-6)
    clamped = position.clamp(0, cells - 1)
    weights = (1 - (clamped[:, None] - torch.arange(cells)).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True) * inside[:, None]
