from __future__ import annotations

import itertools

import pytest

from networks.tile_grid import TileSpan, tile_grid


def test_a_grid_by_hand() -> None:
    """Steps of 32 - 2 * 8 = 16; the last of 63 voxels ends at 64, and 16 of 16 is one tile."""
    grid = tile_grid((63, 16), tile_shape=(32, 32), stride=(8, 8), margin=(5, 5))
    alone = TileSpan(0, 16, 0, 16)
    assert grid == [
        (TileSpan(0, 32, 0, 24), alone),
        (TileSpan(16, 48, 24, 40), alone),
        (TileSpan(32, 64, 40, 63), alone),
    ]


def test_tiles_are_no_larger_than_they_must_be() -> None:
    """Of at most 192 voxels three are needed for 430, and three of 176 do: 144 + 2 * 16."""
    spans = [s for (s,) in tile_grid((430,), tile_shape=(192,), stride=(16,), margin=(16,))]
    assert spans == [
        TileSpan(0, 176, 0, 160),
        TileSpan(144, 320, 160, 288),
        TileSpan(256, 432, 288, 430),
    ]


@pytest.mark.parametrize(("tile", "margin"), [(16, 0), (16, 4), (24, 8), (24, 5), (32, 9)])
def test_any_axis(tile: int, margin: int) -> None:
    stride = 4
    for size in range(1, 130):
        spans = [
            s for (s,) in tile_grid((size,), tile_shape=(tile,), stride=(stride,), margin=(margin,))
        ]
        cores = [v for s in spans for v in range(s.core_start, s.core_stop)]
        assert cores == list(range(size)), "each voxel lies in one core"
        assert len({s.stop - s.start for s in spans}) == 1
        assert spans[0].start == 0 and size <= spans[-1].stop < size + stride
        for span in spans:
            assert span.start % stride == 0 and span.core_start % stride == 0
            assert span.start == 0 or span.core_start - span.start >= margin
            assert span is spans[-1] or span.stop - span.core_stop >= margin
            assert span.core_start <= (span.start + span.stop) / 2
            assert span is spans[-1] or (span.start + span.stop) / 2 < span.core_stop
        wide = spans[0].stop - stride
        if len(spans) > 1:
            rounded = -(-margin // stride) * stride
            assert spans[0].stop <= tile
            assert len(spans) * (wide - 2 * rounded) + 2 * rounded < spans[-1].stop
        for before, after in itertools.pairwise(spans):
            assert before.start < after.start


def test_arguments_that_break_a_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry per axis, got 2, 1, 1 and 1"):
        tile_grid((9, 9), tile_shape=(8,), stride=(4,), margin=(0,))
    with pytest.raises(ValueError, match="tile_shape must be a multiple of the stride 4, got 10"):
        tile_grid((9,), tile_shape=(10,), stride=(4,), margin=(0,))
    with pytest.raises(ValueError, match="below half of the tile's 16 voxels, got 8"):
        tile_grid((9,), tile_shape=(16,), stride=(4,), margin=(5,))
    with pytest.raises(ValueError, match="0 or more and below half"):
        tile_grid((9,), tile_shape=(16,), stride=(4,), margin=(-4,))
