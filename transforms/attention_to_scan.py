"""Attention from the network's feature grid to the scan's voxels."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch.nn.functional import grid_sample

from transforms.derived_volume import derived_volume
from transforms.square_affine import square_affine

PARALLEL_WITHIN_CELLS = 0.1
EDGE_CELLS = 1e-6


def attention_to_scan(attention: MetaTensor, scan: MetaTensor) -> MetaTensor:
    """Brings an attention map from the feature grid to the scan's own grid.

    Linear between cell centres, constant in the outer half cell, zero where the feature grid does
    not reach (outside the crop). Where the axes of the two grids are parallel, be they swapped,
    flipped and scaled, each is resampled on its own, which takes a fraction of the time and memory
    of a sampling grid; under gantry tilt or rotation every voxel is sampled.

    Args:
        attention: ``(1, h, w[, d])`` with the affine of the feature grid.
        scan: ``(C, H, W[, D])``; only its shape and affine are read.

    Returns:
        Float32 ``(1, H, W[, D])`` with the scan's affine; values are not rescaled.
    """
    shape = tuple(scan.shape[1:])
    rank = len(shape)
    to_cell = square_affine(attention.affine, rank).inverse() @ square_affine(scan.affine, rank)
    values = attention.as_tensor()[0].float()
    scan_axes = _parallel_axes(to_cell, shape)
    if scan_axes is None:
        on_scan = _sample_voxels(values, to_cell, shape)
    else:
        on_scan = _sample_axes(values, to_cell, shape, scan_axes)
    return derived_volume(on_scan[None], scan.affine, scan)


def _parallel_axes(to_cell: torch.Tensor, shape: tuple[int, ...]) -> list[int] | None:
    """The scan axis along each feature axis; None unless parallel to 0.1 cell over the scan."""
    linear = to_cell[:-1, :-1]
    axes = linear.abs().argmax(dim=1, keepdim=True)
    off_axis_cells = linear.scatter(1, axes, 0.0).abs() @ torch.tensor(shape, dtype=linear.dtype)
    scan_axes = axes.flatten().tolist()
    if off_axis_cells.max() > PARALLEL_WITHIN_CELLS or len(set(scan_axes)) < len(shape):
        return None
    return scan_axes


def _sample_axes(
    values: torch.Tensor, to_cell: torch.Tensor, shape: tuple[int, ...], scan_axes: list[int]
) -> torch.Tensor:
    for cell_axis, scan_axis in enumerate(scan_axes):
        step, offset = to_cell[cell_axis, scan_axis], to_cell[cell_axis, -1]
        position = step * torch.arange(shape[scan_axis]) + offset
        weights = _weights(position, values.shape[0], reach=max(1.0, float(step.abs())))
        values = torch.tensordot(values, weights.to(values), dims=([0], [1]))
    # Each product takes the first axis and puts its voxels last, so the order is kept.
    return values.permute([scan_axes.index(axis) for axis in range(len(shape))]).contiguous()


def _weights(position: torch.Tensor, cells: int, reach: float) -> torch.Tensor:
    """Linear weights ``(voxels, cells)`` for voxel centres given in cell coordinates.

    Voxels wider than a cell reach over as many, so that no peak falls between them.
    """
    inside = (position >= -0.5 - EDGE_CELLS) & (position <= cells - 0.5 + EDGE_CELLS)
    clamped = position.clamp(0, cells - 1)
    weights = (1 - (clamped[:, None] - torch.arange(cells)).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True) * inside[:, None]


def _sample_voxels(
    values: torch.Tensor, to_cell: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor:
    """Linear sampling at every voxel centre, which no direction of the axes can break."""
    cells = torch.tensor(values.shape, dtype=torch.float64)
    ranges = [torch.arange(size, dtype=torch.float64) for size in (1, *shape[1:])]
    first_row = torch.stack(torch.meshgrid(*ranges, indexing="ij"), dim=-1)
    first_row = first_row @ to_cell[:-1, :-1].T + to_cell[:-1, -1]
    on_scan = values.new_empty(shape)
    # Row by row: the sampling grid of a whole scan would take gigabytes.
    for row in range(shape[0]):
        position = first_row + row * to_cell[:-1, 0]
        inside = (position - (cells - 1) / 2).abs() <= cells / 2 + EDGE_CELLS
        # grid_sample counts from -1 to 1 between the outer cell faces, last axis first.
        grid = ((2 * position + 1) / cells - 1).flip(-1)[None].to(values)
        sampled = grid_sample(values[None, None], grid, padding_mode="border", align_corners=False)
        on_scan[row] = (sampled[0, 0] * inside.all(dim=-1).to(values))[0]
    return on_scan
