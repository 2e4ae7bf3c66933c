from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import DownsampleMaskd, downsample_mask, feature_affine


def naive(mask: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Any overlap of [j n / m, (j + 1) n / m) with voxel cells [i, i + 1), in whole numbers."""
    out = np.zeros((len(mask), *cells), mask.dtype)
    for cell in itertools.product(*(range(count) for count in cells)):
        window = tuple(
            slice(j * size // count, -(-(j + 1) * size // count))
            for j, size, count in zip(cell, mask.shape[1:], cells, strict=True)
        )
        for channel, values in enumerate(mask):
            out[channel][cell] = values[window].max()
    return out


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_naive_loop_at_any_ratio(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = 2 + seed % 2
    sizes = tuple(rng.integers(1, 13, rank))
    cells = tuple(int(count) for count in rng.integers(1, 13, rank))
    mask = (rng.random((2, *sizes)) < 0.1).astype(np.uint8)
    got = downsample_mask(torch.from_numpy(mask), cells)
    assert np.array_equal(got.numpy(), naive(mask, cells))


@pytest.mark.parametrize("cells", [(4, 4, 3), (5, 3, 2), (7, 9, 4), (1, 1, 1), (20, 13, 5)])
def test_no_single_voxel_is_lost_and_each_falls_into_its_cell(cells: tuple[int, ...]) -> None:
    sizes = (13, 12, 5)
    for voxel in itertools.product(*(range(size) for size in sizes)):
        mask = torch.zeros(1, *sizes, dtype=torch.bool)
        mask[(0, *voxel)] = True
        centre = [int((i + 0.5) * m / n) for i, n, m in zip(voxel, sizes, cells, strict=True)]
        assert downsample_mask(mask, cells)[(0, *centre)]


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float32]
)
def test_keeps_the_dtype_and_an_empty_mask(dtype: torch.dtype) -> None:
    out = downsample_mask(torch.zeros(1, 8, 8, 8, dtype=dtype), (2, 3, 4))
    assert out.dtype == dtype and out.shape == (1, 2, 3, 4) and not out.any()
    assert downsample_mask(torch.ones(1, 8, 8, dtype=dtype), (3, 3)).all()


def test_the_lecture_example_survives_on_a_two_by_two_grid() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 3, 4] = 1
    mask[0, 4, 7] = 1
    assert downsample_mask(mask, (2, 2)).tolist() == [[[0, 1], [0, 1]]]


def test_full_size_grid() -> None:
    mask = torch.zeros(1, 512, 512, 200, dtype=torch.uint8)
    mask[0, 511, 3, 199] = 1
    out = downsample_mask(mask, (128, 128, 50))
    assert out.nonzero().tolist() == [[0, 127, 0, 49]]


def test_nearest_and_trilinear_lose_small_lesions_that_any_overlap_keeps() -> None:
    rng = np.random.default_rng(0)
    lost = {"any": 0, "nearest": 0, "trilinear": 0}
    for _ in range(60):
        mask = torch.zeros(1, 32, 32, 32)
        x, y, z = rng.integers(0, 30, 3)
        mask[0, x : x + 2, y : y + 2, z : z + 2] = 1
        lost["any"] += not downsample_mask(mask, (8, 8, 8)).any()
        for mode in ("nearest", "trilinear"):
            small = torch.nn.functional.interpolate(mask[None], size=(8, 8, 8), mode=mode)
            lost[mode] += not (small > 0.5).any()
    assert lost["any"] == 0 and lost["nearest"] > 20 and lost["trilinear"] > 20


def test_the_affine_places_cell_centres() -> None:
    affine = torch.tensor(
        [[0.0, -0.7, 0, 10], [0.8, 0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]], dtype=torch.float64
    )
    mask = MetaTensor(torch.zeros(1, 12, 10, 7), affine, {"filename_or_obj": "a.nii"})
    out = downsample_mask(mask, (3, 4, 7))
    assert isinstance(out, MetaTensor)
    for cell in ((0, 0, 0), (2, 3, 6), (1, 2, 3)):
        voxel = (np.array(cell) + 0.5) * (4, 2.5, 1) - 0.5
        want = affine @ torch.tensor([*voxel, 1.0], dtype=torch.float64)
        got = out.affine @ torch.tensor([*cell, 1.0], dtype=torch.float64)
        assert torch.allclose(got, want)
    assert out.meta["filename_or_obj"] == "a.nii"
    assert torch.allclose(feature_affine(affine, (12, 10, 7), (12, 10, 7)), affine)


def test_feature_affine_of_a_three_by_three_matrix() -> None:
    out = feature_affine(torch.diag(torch.tensor([2.0, 3.0, 1.0])), (8, 9), (4, 3))
    assert out.tolist() == [[4, 0, 1], [0, 9, 3], [0, 0, 1]]


def test_strides_give_the_grid_of_padded_convolutions() -> None:
    sizes = (33, 32, 9)
    sample: dict[str, Any] = {"mask": MetaTensor(torch.ones(1, *sizes)), "image": 3}
    out = DownsampleMaskd("mask", (4, 4, 2))(sample)
    layer = torch.nn.Conv3d(1, 1, 3, stride=(2, 2, 2), padding=1)
    small = layer(torch.zeros(1, 1, *sizes))
    assert out["mask"].shape[1:] == (9, 8, 5)
    assert DownsampleMaskd("mask", (2, 2, 2))(sample)["mask"].shape[1:] == small.shape[2:]
    assert sample["mask"].shape[1:] == sizes and out["image"] == 3


def test_refuses_what_makes_no_grid() -> None:
    with pytest.raises(ValueError, match=r"spatial_shape .* got \(2, 2\)"):
        downsample_mask(torch.zeros(1, 4, 4, 4), (2, 2))
    with pytest.raises(ValueError, match=r"strides must be at least 1, got \(4, 0\)"):
        DownsampleMaskd("mask", (4, 0))
    with pytest.raises(ValueError, match="one value for each spatial axis"):
        DownsampleMaskd("mask", (4, 4))({"mask": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(ValueError, match="same length"):
        feature_affine(torch.eye(4), (4, 4, 4), (2, 2))
