"""Overlap of boxes, and suppression of those that a better box covers.

Boxes are corners ``(N, 2 * spatial_dims)``, low corner first, as ``monai.data.box_utils`` has them
(``xyxy`` or ``xyzxyz``); overlaps are computed in float32, as there.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

_EPSILON = float(np.finfo(np.float32).eps)  # keeps 0 / 0 of two empty boxes at 0
_TILE_ELEMENTS = 65_536  # float32 temporaries of this size stay in a core's cache
_MIN_BLOCK = 1024  # boxes; a block this small is resolved whatever its density
_MAX_CANDIDATES_PER_BOX = 64  # a denser block is split, which bounds both time and memory
_FINE_CELLS = 6  # how many cells of the last axis make one of the others
_SLACK = 1.001  # against rounding: the grid may only propose too many pairs


def box_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union ``(N, M)`` of boxes ``(N, 2 * spatial_dims)`` and ``(M, ...)``.

    Same values as ``monai.data.box_utils.box_iou``, in ``a``'s dtype (float32 if that is an
    integer), without its ``(N, M, spatial_dims)`` temporaries and without a gradient.

    Raises:
        ValueError: another shape, a reversed box, a NaN or an infinity.
    """
    low_a, high_a = _corners(a, "a")
    low_b, high_b = _corners(b, "b")
    if len(low_a) != len(low_b):
        raise ValueError(f"a and b must have as many columns, got {a.shape[1]} and {b.shape[1]}")
    area_a, area_b = (high_a - low_a).prod(0)[:, None], (high_b - low_b).prod(0)
    shape = (a.shape[0], b.shape[0])
    iou = torch.empty(shape, dtype=a.dtype if a.is_floating_point() else None, device=a.device)
    rows = max(1, _TILE_ELEMENTS // max(1, shape[1]))
    scratch = torch.empty((3, min(rows, shape[0]), shape[1]), device=a.device)
    for start in range(0, shape[0], rows):
        tile = slice(start, start + rows)
        inter, width, other = scratch[:, : min(rows, shape[0] - start)]
        inter.fill_(1)
        for axis in range(len(low_a)):
            torch.minimum(high_a[axis, tile, None], high_b[axis], out=width)
            torch.maximum(low_a[axis, tile, None], low_b[axis], out=other)
            inter *= width.sub_(other).clamp_(min=0)
        torch.add(area_a[tile], area_b, out=other)
        torch.div(inter, other.sub_(inter).add_(_EPSILON), out=inter)
        iou[tile] = inter
    return iou


def nms(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_boxes: int | None = None
) -> torch.Tensor:
    """Non-maximum suppression: int64 indices of the boxes kept, by falling score.

    A box goes if its intersection over union with a kept box of higher score is above
    ``iou_threshold``; of equal scores the first comes first. Keeps the boxes that
    ``monai.data.box_utils.non_max_suppression`` keeps. Runs on the CPU, on one core; the indices
    come back on the device of ``boxes``.

    Args:
        boxes: ``(N, 4)`` or ``(N, 6)`` corners.
        scores: ``(N,)``.
        iou_threshold: 0 to 1.
        max_boxes: stop after so many; None, or -1 as in MONAI, for all.

    Raises:
        ValueError: another shape, a reversed box, a NaN, or an argument outside its range.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie between 0 and 1, got {iou_threshold}")
    if max_boxes is not None and max_boxes != -1 and max_boxes < 1:
        raise ValueError(f"max_boxes must be 1 or more, or -1 for no limit, got {max_boxes}")
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"scores must have shape (N,) for boxes of shape (N, columns), "
            f"got {tuple(scores.shape)} and {tuple(boxes.shape)}"
        )
    corners = torch.cat(_corners(boxes, "boxes")).cpu().numpy()
    limit = boxes.shape[0] if max_boxes in (None, -1) else max_boxes
    kept = _suppress(corners, _falling(scores), iou_threshold, limit)
    return torch.from_numpy(kept).to(boxes.device)


def _corners(boxes: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high corners, float32 ``(spatial_dims, N)``."""
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6):
        raise ValueError(f"{name} must have shape (N, 4) or (N, 6), got {tuple(boxes.shape)}")
    low, high = boxes.detach().float().T.contiguous().chunk(2)
    size = high - low
    valid = (size >= 0) & (size < torch.inf)
    if not valid.all():
        row = int((~valid).any(0).nonzero()[0])
        raise ValueError(
            f"{name} must be finite and go from low to high corners, "
            f"got {boxes[row].tolist()} in row {row}"
        )
    return low, high


def _falling(scores: torch.Tensor) -> IntArray:
    """Indices by falling score; a stable sort, which costs more, only where there are ties."""
    values = scores.detach().cpu()
    exact = values if values.dtype in (torch.float32, torch.float64) else values.double()
    negative = -exact.numpy()
    order = np.argsort(negative)
    ordered = negative[order]
    if np.isnan(ordered[-1:]).any():
        raise ValueError(f"scores must not be NaN, got NaN in row {order[-1]}")
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(negative, kind="stable")
    return order


def _suppress(corners: FloatArray, order: IntArray, iou_threshold: float, limit: int) -> IntArray:
    """The first ``limit`` of ``order`` that no kept box suppresses.

    Works on blocks of falling score: resolves a block, drops what its survivors suppress from the
    rest, goes on. Where boxes crowd, small blocks leave little of the rest; else one block is all.
    """
    kept: list[IntArray] = []
    missing = limit
    while missing > 0 and len(order):
        size = missing + missing // 4 + 16 if missing < len(order) else len(order)
        head = order[:size]
        grid = _grid(corners[:, head], iou_threshold)
        while len(head) > _MIN_BLOCK and grid.candidates > _MAX_CANDIDATES_PER_BOX * len(head):
            head = head[: max(_MIN_BLOCK, len(head) // 8)]
            grid = _grid(corners[:, head], iou_threshold)
        keep = _survivors(len(head), *_overlapping_pairs(grid, iou_threshold))
        kept.append(head[keep][:missing])
        missing -= len(kept[-1])
        order = order[len(head) :]
        if missing > 0 and len(order):
            both = np.concatenate((kept[-1], order))
            cross = _grid(corners[:, both], iou_threshold, queries=len(kept[-1]))
            stays = np.ones(len(both), dtype=bool)
            stays[_overlapping_pairs(cross, iou_threshold)[1]] = False
            order = both[stays][len(kept[-1]) :]
    return np.concatenate(kept) if kept else np.empty(0, dtype=np.intp)


def _survivors(count: int, better: IntArray, worse: IntArray) -> npt.NDArray[np.bool_]:
    """Greedy suppression of boxes ranked 0 to ``count``, all at once.

    ``better[k]`` and ``worse[k]`` are ranks of one overlapping pair. Each round settles every box
    of which no better overlapping box is left; the rounds are as many as the longest chain.
    """
    keep = np.ones(count, dtype=bool)
    while len(better):
        waits = np.zeros(count, dtype=bool)
        waits[worse] = True
        keep[worse[~waits[better]]] = False
        open_pairs = np.flatnonzero(keep[better] & keep[worse])
        better, worse = better[open_pairs], worse[open_pairs]
    return keep


class _Grid(NamedTuple):
    """Which boxes may overlap: box ``owner[k]`` and the ``count[k]`` boxes from ``first[k]`` on,
    all of them positions in cell order; ``rank`` maps these back."""

    corners: FloatArray  # (2 * spatial_dims, N), in cell order
    half_reach: FloatArray  # (spatial_dims, N); centres of a pair lie within the sum of the two
    rank: IntArray
    owner: IntArray
    first: IntArray
    count: IntArray
    candidates: int


def _grid(corners: FloatArray, iou_threshold: float, queries: int = 0) -> _Grid:
    """Sort boxes into cells, so that each need only be compared with those of the cells around it.

    Boxes of lengths p and q on an axis can only exceed the threshold t if their centres are within
    (p + q) / 2 * (1 - t) / (1 + t) on it. The cells of the last axis, contiguous in cell order, are
    finer. With ``queries``, the first so many boxes are compared with the others only; without,
    each pair is proposed once.
    """
    dims, total = corners.shape[0] // 2, corners.shape[1]
    low, high = corners[:dims], corners[dims:]
    centre = (low + high) * np.float32(0.5)
    half = (high - low) * np.float32(0.5 * _SLACK * (1 - iou_threshold) / (1 + iou_threshold))
    origin, widest = centre.min(1), half.max(1)
    coarsest = max(1, int((4 * total) ** (1 / dims)))
    side = np.maximum(2 * widest, (centre.max(1) - origin) / coarsest)
    side[-1] /= _FINE_CELLS
    per_unit = 1 / np.maximum(side, np.float32(1e-6))[:, None]
    centre -= origin[:, None]
    cell = (centre * per_unit).astype(np.intp)
    cell[:-1] += 1  # a border of empty cells: a step to a neighbour stays in the grid
    shape = [int(cells) for cells in cell.max(1) + 2]
    shape[-1] -= 1
    reach = half[-1] + widest[-1]
    nearest = (np.maximum(centre[-1] - reach, 0) * per_unit[-1]).astype(np.intp)
    farthest = ((centre[-1] + reach) * per_unit[-1]).astype(np.intp) + 1
    row = np.ravel_multi_index(tuple(cell[:-1]), shape[:-1]) * shape[-1]
    key = row + cell[-1]
    rank = np.arange(total)
    rank[queries:] = np.argsort(key[queries:]) + queries
    bounds = np.zeros(int(np.prod(shape)) + 1, dtype=np.intp)
    np.cumsum(np.bincount(key[queries:], minlength=len(bounds) - 1), out=bounds[1:])
    bounds += queries
    askers = rank[: queries or total]
    begin = (row + nearest)[askers]
    end = (row + np.minimum(farthest, shape[-1]))[askers]
    firsts, lasts = [], []
    for step in itertools.product((-1, 0, 1), repeat=dims - 1):
        if not queries and step < (0,) * (dims - 1):
            continue  # the mirror step proposes these pairs
        offset = 0
        for move, cells in zip(step, shape[1:], strict=True):
            offset = (offset + move) * cells
        own_row = not queries and not any(step)
        firsts.append(np.arange(1, total + 1) if own_row else bounds.take(begin + offset))
        lasts.append(bounds.take(end + offset))
    first = np.concatenate(firsts)
    count = np.concatenate(lasts) - first
    used = np.flatnonzero(count)
    count = count[used]
    return _Grid(
        corners=corners[:, rank],
        half_reach=half[:, rank],
        rank=rank,
        owner=used % len(askers),
        first=first[used],
        count=count,
        candidates=int(count.sum()),
    )


def _overlapping_pairs(grid: _Grid, iou_threshold: float) -> tuple[IntArray, IntArray]:
    """Lower and higher rank of each pair whose intersection over union is above the threshold."""
    dims = len(grid.half_reach)
    low, high = grid.corners[:dims], grid.corners[dims:]
    centre = (low + high) * np.float32(0.5)
    area = (high - low).prod(0)
    pairs: list[tuple[IntArray, IntArray]] = []
    ends = np.cumsum(grid.count)
    return pairs
