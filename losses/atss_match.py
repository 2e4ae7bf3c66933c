"""Which cells of a detector's feature pyramid answer for which box."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

_TIE = 1e-9  # overlaps this close are equal, so that rounding cannot drop a whole row of them


class CellMatches(NamedTuple):
    """The positive cells, each once, in rising order.

    Attributes:
        cell: ``(P,)`` indices into the cells of all levels, each level flattened, fine to coarse.
        box: ``(P,)`` the box that the cell answers for.
        centre_voxel: ``(P, spatial_dims)`` float64 centre of the cell.
        stride_voxel: ``(P, spatial_dims)`` float64 stride of the cell's level.
    """

    cell: torch.Tensor
    box: torch.Tensor
    centre_voxel: torch.Tensor
    stride_voxel: torch.Tensor


class _Candidates(NamedTuple):
    """For each box its candidate cells ``(N, K)``: index, distance, overlap, centre in the box."""

    cell: torch.Tensor
    squared_distance: torch.Tensor
    iou: torch.Tensor
    is_inside: torch.Tensor


def atss_match(
    boxes_voxel: torch.Tensor,
    level_shapes: Sequence[Sequence[int]],
    level_strides: Sequence[Sequence[int]],
    *,
    anchor_scale: float,
    candidates: int,
) -> CellMatches:
    """Adaptive training sample selection (ATSS, arXiv:1912.02424) with one anchor a cell.

    Of each level, the cells whose centres are nearest to the box's are its candidates. Those
    become positive whose anchor, ``anchor_scale`` strides wide, overlaps the box by at least the
    mean and standard deviation over all its candidates, and whose centre lies in the box. A cell
    that several boxes claim goes to the one that it overlaps most. Beyond the paper, boxes left
    without a cell, such as those smaller than one, take the best of their candidates that is free,
    those of the largest overlap first.

    Ties are settled: of equal distances the nearer is the lower index, of equal overlaps of two
    boxes the first box. The k nearest of a grid are among the k nearest along each axis, so only
    that window is looked at, with the result of a look at all cells.

    Args:
        boxes_voxel: ``(N, 2 * spatial_dims)`` corners, low first; N may be 0.
        level_shapes: cells of each level along every axis.
        level_strides: voxels a cell of each level covers along every axis.
        anchor_scale: width of an anchor in strides.
        candidates: cells of each level that a box may claim.

    Returns:
        On the CPU, where the few boxes of a sample are matched fastest.
    """
    boxes = boxes_voxel.detach().to("cpu", torch.float64)
    sizes = [math.prod(shape) for shape in level_shapes]
    starts = list(itertools.accumulate(sizes, initial=0))
    levels = [
        _nearest_cells(boxes, shape, stride, anchor_scale=anchor_scale, count=candidates)
        for shape, stride in zip(level_shapes, level_strides, strict=True)
    ]
    found = _Candidates(
        torch.cat([level.cell + start for level, start in zip(levels, starts, strict=False)], 1),
        *(torch.cat(columns, 1) for columns in list(zip(*levels, strict=True))[1:]),
    )
    owner = _claims(found)
    cell = torch.tensor(sorted(owner), dtype=torch.int64)
    box = torch.tensor([owner[index] for index in sorted(owner)], dtype=torch.int64)
    return CellMatches(cell, box, *_places(cell, starts, level_shapes, level_strides))


def _nearest_cells(
    boxes: torch.Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    *,
    anchor_scale: float,
    count: int,
) -> _Candidates:
    """The ``count`` cells of one level nearest to each box, nearest first."""
    low, high = boxes.chunk(2, dim=1)
    cell = torch.zeros((len(boxes), 1), dtype=torch.int64)
    squared, overlap = boxes.new_zeros(cell.shape), boxes.new_ones(cell.shape)
    is_inside = torch.ones_like(cell, dtype=torch.bool)
    for axis, (cells, step) in enumerate(zip(shape, stride, strict=True)):
        lowest, highest = low[:, axis, None], high[:, axis, None]
        centres = (torch.arange(cells) + 0.5).to(boxes) * step
        distance = (centres - (lowest + highest) / 2).abs()
        # In rising order, so that the window's cells are in the order of their indices.
        near = distance.argsort(dim=1, stable=True)[:, :count].sort(dim=1).values
        at, half = centres[near], anchor_scale * step / 2
        shared = torch.minimum(highest, at + half) - torch.maximum(lowest, at - half)
        cell = _outer(cell * cells, near, torch.add)
        squared = _outer(squared, distance.gather(1, near) ** 2, torch.add)
        overlap = _outer(overlap, shared.clamp(min=0), torch.mul)
        is_inside = _outer(is_inside, (at > lowest) & (at < highest), torch.logical_and)
    nearest = squared.argsort(dim=1, stable=True)[:, :count]
    anchor = math.prod(anchor_scale * step for step in stride)
    iou = overlap / (anchor + (high - low).prod(dim=1, keepdim=True) - overlap)
    return _Candidates(*(values.gather(1, nearest) for values in (cell, squared, iou, is_inside)))


def _outer(
    rows: torch.Tensor,
    columns: torch.Tensor,
    combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Each of ``(N, R)`` with each of ``(N, C)``, as ``(N, R * C)``."""
    return combine(rows[:, :, None], columns[:, None]).flatten(1)


def _claims(found: _Candidates) -> dict[int, int]:
    """The box of each positive cell."""
    mean = found.iou.mean(dim=1, keepdim=True)
    # Not torch's std: of a single candidate it is NaN.
    variance = ((found.iou - mean) ** 2).sum(dim=1, keepdim=True) / max(1, found.iou.shape[1] - 1)
    threshold = mean + variance.sqrt() - _TIE
    box, column = (found.is_inside & (found.iou >= threshold)).nonzero(as_tuple=True)
    order = found.iou[box, column].argsort(descending=True, stable=True)
    owner: dict[int, int] = {}
    for index in order.tolist():
        owner.setdefault(int(found.cell[box[index], column[index]]), int(box[index]))
    left_over = set(range(len(found.cell))) - set(owner.values())
    for homeless in sorted(left_over, key=lambda box: (-float(found.iou[box].max()), box)):
        cells = found.cell[homeless]
        best_first = np.lexsort((cells, found.squared_distance[homeless], -found.iou[homeless]))
        free = (int(cells[index]) for index in best_first if int(cells[index]) not in owner)
        if (cell := next(free, None)) is not None:
            owner[cell] = homeless
    return owner


def _places(
    cell: torch.Tensor,
    starts: Sequence[int],
    level_shapes: Sequence[Sequence[int]],
    level_strides: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre and stride of each of the cells ``(P,)``, which are in rising order."""
    centres, strides = [], []
    for shape, stride, start, stop in zip(
        level_shapes, level_strides, starts[:-1], starts[1:], strict=True
    ):
        here = cell[(cell >= start) & (cell < stop)] - start
        steps = torch.tensor(list(stride), dtype=torch.float64)
        index = torch.stack(torch.unravel_index(here, tuple(shape)), dim=1)
        centres.append((index + 0.5) * steps)
        strides.append(steps.expand(index.shape))
    return torch.cat(centres), torch.cat(strides)
