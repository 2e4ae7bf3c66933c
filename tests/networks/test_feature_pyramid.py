from __future__ import annotations

import itertools

import pytest
import torch

from networks import FeaturePyramid


def _pyramid(spatial_dims: int = 2, strides=((4, 2), (8, 4), (16, 4))) -> FeaturePyramid:
    torch.manual_seed(0)
    return FeaturePyramid(
        spatial_dims=spatial_dims, in_channels=[2, 3, 4], strides=strides, out_channels=5
    )


@pytest.mark.parametrize("shape", [(16, 8), (13, 7), (3, 1)])
def test_every_cell_is_its_own_map_and_the_coarse_cells_above_it(shape: tuple[int, int]) -> None:
    """Against a loop over cells; the last axis of the coarsest level is not coarser."""
    pyramid = _pyramid()
    shapes: list[tuple[int, ...]] = [shape]
    for ratio in [(2, 2), (2, 1)]:
        shapes.append(tuple(-(-n // r) for n, r in zip(shapes[-1], ratio, strict=True)))
    features = [torch.randn(2, c, *s) for c, s in zip([2, 3, 4], shapes, strict=True)]
    maps = pyramid(features)
    alone = [lateral(f) for lateral, f in zip(pyramid.laterals, features, strict=True)]
    for i, j in itertools.product(*map(range, shape)):
        coarsest = alone[2][..., i // 4, j // 2]
        middle = alone[1][..., i // 2, j // 2] + coarsest
        torch.testing.assert_close(maps[1][..., i // 2, j // 2], middle)
        torch.testing.assert_close(maps[0][..., i, j], alone[0][..., i, j] + middle)
    assert [m.shape[1:] for m in maps] == [(5, *s) for s in shapes]


def test_three_dimensions_and_a_single_level() -> None:
    pyramid = FeaturePyramid(spatial_dims=3, in_channels=[2], strides=[(4, 4, 2)], out_channels=3)
    feature = torch.randn(1, 2, 3, 4, 5)
    torch.testing.assert_close(pyramid([feature])[0], pyramid.laterals[0](feature))


def test_a_stride_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiple of the finer one's, got \[8, 3\] above"):
        _pyramid(strides=((4, 2), (8, 3), (16, 3)))
