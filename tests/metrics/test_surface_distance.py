from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from metrics.surface_distance import surface_distance


def test_two_voxels_are_as_far_as_their_centres():
    first, second = np.zeros((2, 9, 9, 5), dtype=bool)
    first[2, 2, 2] = second[5, 6, 2] = True
    assert surface_distance(first, second, [1.0, 0.5, 2.0]) == pytest.approx(
        (np.hypot(3, 2), np.hypot(3, 2))
    )
    assert surface_distance(first, first, [1.0, 0.5, 2.0]) == (0, 0)


def test_a_mask_that_fills_the_array_has_a_surface():
    full = np.ones((3, 3, 3), dtype=bool)
    middle = np.zeros_like(full)
    middle[1, 1, 1] = True
    # 6 faces, 12 edges, 8 corners; the middle is nearest to a face, at 1 mm.
    far = [1.0] * 6 + [np.sqrt(2)] * 12 + [np.sqrt(3)] * 8
    expected = (1 + sum(far)) / 27
    assert surface_distance(full, middle, [1, 1, 1]).mean_mm == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(14, 12), (14, 12, 9)])
def test_it_is_that_of_monai(shape):
    rng = np.random.default_rng(0)
    spacing = [0.7, 0.9, 2.5][: len(shape)]
    for _ in range(10):
        first, second = rng.random((2, *shape)) < 0.4
        one, other = (torch.from_numpy(mask)[None, None] for mask in (first, second))
        mean = compute_average_surface_distance(
            one, other, include_background=True, symmetric=True, spacing=spacing
        )
        far = compute_hausdorff_distance(
            one, other, include_background=True, percentile=95, spacing=spacing
        )
        found = surface_distance(first, second, spacing)
        assert found == pytest.approx((float(mean), float(far)), rel=1e-5)


def test_an_empty_mask_has_no_surface():
    empty = np.zeros((3, 3), dtype=bool)
    with pytest.raises(ValueError, match="both masks must hold a voxel"):
        surface_distance(empty, ~empty, [1, 1])
