"""Which of many boxes overlap, without comparing each with each."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]

EPSILON = float(np.finfo(np.float32).eps)
_FINE_CELLS = 6  # how many cells of the last axis make one of the others
_CHUNK = 32_768  # candidate pairs held at once: their temporaries stay in a core's cache


class BoxGrid:
    """Boxes sorted into cells, so that each need only be compared with those of the cells around.

    Boxes of lengths p and q on an axis exceed the threshold t only if their centres are within
    ``(p + q) / 2 * (1 - t) / (1 + t)`` on it, which sets the size of a cell. The cells of the last
    axis, neighbours in memory, are finer.

    Args:
        corners: float32 ``(2 * spatial_dims, N)``, low corner first, N 1 or more.
        iou_threshold: 0 to 1; pairs overlap if their intersection over union is above it.
        queries: 0 to compare every box with every other; else the first so many boxes are compared
            with those after them only.

    Attributes:
        candidates: number of pairs that :meth:`overlapping_pairs` will have to compare.
    """

    def __init__(self, corners: FloatArray, iou_threshold: float, queries: int = 0) -> None:
        dims, total = corners.shape[0] // 2, corners.shape[1]
        low, high = corners[:dims], corners[dims:]
        # The slack is for rounding: the grid may propose too many pairs, never too few.
        slack = 4 * EPSILON * max(-float(low.min()), float(high.max()))
        half = (high - low) * np.float32(0.5 * (1 - iou_threshold) / (1 + iou_threshold))
        half = half * np.float32(1.001) + np.float32(slack)
        centre = (low + high) * np.float32(0.5)
        centre -= centre.min(1, keepdims=True)
        cell, per_unit = _cells(centre, half)
        shape = [int(cells) for cells in cell.max(1) + 2]
        row = _row_starts(cell[:-1], shape)
        key = row + cell[-1]

        order = np.arange(total)
        order[queries:] = np.argsort(key[queries:]) + queries
        starts = np.zeros(math.prod(shape) + 1, dtype=np.intp)
        np.cumsum(np.bincount(key[queries:], minlength=len(starts) - 1), out=starts[1:])
        starts += queries

        reach = half[-1] + half[-1].max()
        nearest = (np.maximum(centre[-1] - reach, 0) * per_unit).astype(np.intp)
        farthest = ((centre[-1] + reach) * per_unit).astype(np.intp) + 1
        asking = order[: queries or total]
        begin = (row + nearest).take(asking)
        end = (row + np.minimum(farthest, shape[-1])).take(asking)
        first, last = _ranges(starts, begin, end, shape, own_pairs_once=not queries)
        used = np.flatnonzero(last > first)

        self._iou_threshold = np.float32(iou_threshold)
        self._order = order
        self._corners, self._centre, self._half = (
            corners[:, order],
            centre[:, order],
            half[:, order],
        )
        self._owner, self._first = used % len(asking), first.take(used)
        self._counts = last.take(used) - self._first
        self.candidates = int(self._counts.sum())

    def overlapping_pairs(self) -> tuple[IntArray, IntArray]:
        """Indices, the lower and the higher, of each pair that overlaps by more than the threshold.

        Overlaps are those of :func:`networks.box_ops.box_iou` to the last bit.
        """
        area = _product(self._corners[len(self._half) :] - self._corners[: len(self._half)])
        found: list[tuple[IntArray, IntArray]] = [(self._owner[:0], self._first[:0])]
        counts, ends = self._counts, np.cumsum(self._counts)
        shift = self._first - (ends - counts)  # from a candidate's number to its box
        start = done = 0
        while start < len(counts):
            stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK)))
            chunk = slice(start, stop)
            owner = np.repeat(self._owner[chunk], counts[chunk])
            other = np.repeat(shift[chunk], counts[chunk])
            other += np.arange(done, done + len(other))
            start, done = stop, done + len(other)
            owner, other = self._within_reach(owner, other)
            over = self._iou(area, owner, other) > self._iou_threshold
            found.append((owner[over], other[over]))
        owners, others = (self._order[np.concatenate(side)] for side in zip(*found, strict=True))
        return np.minimum(owners, others), np.maximum(owners, others)

    def _within_reach(self, owner: IntArray, other: IntArray) -> tuple[IntArray, IntArray]:
        for centre, half in zip(self._centre, self._half, strict=True):
            distance = centre.take(owner)
            distance -= centre.take(other)
            np.abs(distance, out=distance)
            distance -= half.take(owner)
            near = np.flatnonzero(distance <= half.take(other))
            owner, other = owner.take(near), other.take(near)
        return owner, other

    def _iou(self, area: FloatArray, owner: IntArray, other: IntArray) -> FloatArray:
        dims = len(self._half)
        widths = []
        for low, high in zip(self._corners[:dims], self._corners[dims:], strict=True):
            width = np.minimum(high.take(owner), high.take(other))
            width -= np.maximum(low.take(owner), low.take(other))
            widths.append(np.maximum(width, 0, out=width))
        inter = _product(widths)
        union = area.take(owner) + area.take(other) - inter
        return inter / (union + np.float32(EPSILON))


def _cells(centre: FloatArray, half: FloatArray) -> tuple[IntArray, np.float32]:
    """Cell ``(spatial_dims, N)`` of each box, and cells per unit of length on the last axis.

    No more cells than a few per box, however far apart the boxes are.
    """
    dims, total = centre.shape
    coarsest = max(1, int((4 * total) ** (1 / dims)))
    side = np.maximum(2 * half.max(1), centre.max(1) / coarsest)
    side[-1] /= _FINE_CELLS
    per_unit = 1 / np.maximum(side, np.float32(1e-6))
    cell = (centre * per_unit[:, None]).astype(np.intp)
    cell[:-1] += 1  # a border of empty cells: a step to a neighbour stays in the grid
    return cell, per_unit[-1]


def _row_starts(cell: IntArray, shape: list[int]) -> IntArray:
    row = cell[0]
    for axis, cells in enumerate(shape[1:-1], start=1):
        row = row * cells + cell[axis]
    return row * shape[-1]


def _ranges(
    starts: IntArray, begin: IntArray, end: IntArray, shape: list[int], *, own_pairs_once: bool
) -> tuple[IntArray, IntArray]:
    """First and last position (exclusive) to compare, for each neighbouring row and asking box."""
    steps = [0]
    for cells in shape[1:-1]:
        steps = [(step + move) * cells for step in steps for move in (-1, 0, 1)]
    steps = [(step + move) * shape[-1] for step in steps for move in (-1, 0, 1)]
    if own_pairs_once:  # a step back proposes the pairs of the step forward
        steps = [step for step in steps if step >= 0]
    offsets = np.array(steps)[:, None]
    first, last = starts.take(begin + offsets), starts.take(end + offsets)
    if own_pairs_once:
        first[0] = np.arange(1, len(begin) + 1)  # in its own row, those after itself
    return first.ravel(), last.ravel()


def _product(factors: FloatArray | list[FloatArray]) -> FloatArray:
    """Product in the order in which torch multiplies, so that rounding is the same."""
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result
