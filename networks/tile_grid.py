"""Tiles that cover a scan, and the part of each that counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TileSpan:
    """A tile along one axis, in voxels of the scan; ``stop`` and ``core_stop`` are exclusive.

    ``stop`` exceeds the scan by less than a stride, where the scan does not divide.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int


#: A tile's span along each axis.
Tile = tuple[TileSpan, ...]


def tile_grid(
    shape: Sequence[int],
    *,
    tile_shape: Sequence[int],
    stride: Sequence[int],
    margin: Sequence[int],
) -> list[Tile]:
    """Tiles that cover a scan, all of the same shape.

    They are as few as ``tile_shape`` allows, and then as small as so many can be, since what the
    last of an axis covers twice is work for nothing. Each starts on a multiple of ``stride``, the
    last of an axis as far in as it needs to end with the scan. Cores part the scan, each starts on
    a multiple of ``stride``, holds its tile's centre, and inside the scan keeps ``margin`` from its
    tile's border.

    Args:
        shape: voxels of the scan along each axis.
        tile_shape: voxels of a tile at most, multiples of ``stride``.
        stride: voxels.
        margin: voxels, rounded up to multiples of ``stride``.

    Raises:
        ValueError: if an argument is out of its range.
    """
    if not len(shape) == len(tile_shape) == len(stride) == len(margin):
        raise ValueError(
            "shape, tile_shape, stride and margin must have one entry per axis, "
            f"got {len(shape)}, {len(tile_shape)}, {len(stride)} and {len(margin)}"
        )
    axes = map(_spans, shape, tile_shape, stride, margin)
    return list(itertools.product(*axes))


def _spans(size: int, tile: int, stride: int, margin: int) -> list[TileSpan]:
    if tile < 1 or tile % stride:
        raise ValueError(f"tile_shape must be a multiple of the stride {stride}, got {tile}")
    margin = _round_up(margin, stride)
    if margin < 0 or 2 * margin >= tile:
        raise ValueError(
            f"margin, as a multiple of the stride {stride}, must be 0 or more and below half of "
            f"the tile's {tile} voxels, got {margin}"
        )
    padded = _round_up(size, stride)
    tile = min(tile, padded)
    if tile == padded:
        return [TileSpan(0, padded, 0, size)]
    count = -(-(padded - 2 * margin) // (tile - 2 * margin))
    tile = _round_up(-(-(padded - 2 * margin) // count), stride) + 2 * margin
    last = padded - tile
    starts = [*range(0, last, tile - 2 * margin), last]
    # Half-way through each overlap.
    bounds = [
        _round_up((after + before + tile) // 2, stride)
        for before, after in itertools.pairwise(starts)
    ]
    cores = itertools.pairwise([0, *bounds, size])
    return [TileSpan(start, start + tile, *core) for start, core in zip(starts, cores, strict=True)]


def _round_up(voxels: int, stride: int) -> int:
    return -(-voxels // stride) * stride
