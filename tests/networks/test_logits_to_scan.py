from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage

from networks import logits_to_scan

ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def _grid(
    axes: Sequence[int], flips: Sequence[int], spacing: Sequence[float], origin: Sequence[float]
) -> np.ndarray:
    """Affine of a grid whose axis i runs along or against an axis of the world."""
    affine = np.eye(len(axes) + 1)
    affine[:-1, :-1] = 0
    for axis, (world, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[world, axis] = flip * spacing[axis]
    affine[:-1, -1] = origin
    return affine


def _centred(affine: np.ndarray, shape: Sequence[int], middle: np.ndarray) -> np.ndarray:
    """The same grid moved so that its middle lies at a point of the world."""
    affine = affine.copy()
    affine[:-1, -1] = middle - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return affine


def _dense(
    logits: np.ndarray, image_affine: np.ndarray, scan_affine: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """SciPy's value at every voxel, -inf outside the image."""
    rank = len(shape)
    to_cell = np.linalg.inv(image_affine) @ scan_affine
    position = to_cell[:rank, :rank] @ np.indices(shape).reshape(rank, -1) + to_cell[:rank, -1:]
    cells = np.array(logits.shape[1:])[:, None]
    inside = ((position >= -0.5 - 1e-6) & (position <= cells - 0.5 + 1e-6)).all(axis=0)
    values = np.stack(
        [
            ndimage.map_coordinates(c.astype(np.float64), position, order=1, mode="nearest")
            for c in logits
        ]
    )
    return np.where(inside, values, -np.inf).reshape(-1, *shape)


def _assert_is_dense(
    logits: np.ndarray, image_affine: np.ndarray, scan_affine: np.ndarray, shape: Sequence[int]
) -> int:
    """Compares every voxel but those whose value is 0 to rounding; the number of ones."""
    values = _dense(logits, image_affine, scan_affine, shape)
    found = logits_to_scan(
        torch.from_numpy(logits),
        torch.from_numpy(image_affine),
        scan_affine=torch.from_numpy(scan_affine),
        scan_shape=shape,
    )
    assert found.dtype == torch.uint8 and found.shape == (len(logits), *shape)
    clear = np.abs(values) > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found.numpy()[clear], values[clear] > 0)
    return int(found.sum())


def _few_blobs(rng: np.random.Generator, shape: Sequence[int], channels: int = 1) -> np.ndarray:
    """Negative logits with a few positive regions, one in the middle and one in the last cells."""
    noise = rng.standard_normal((channels, *shape)).astype(np.float32)
    logits = -3 + 0.5 * noise
    for channel in logits:
        for _ in range(3):
            start = [int(rng.integers(0, n)) for n in shape]
            region = tuple(slice(s, s + int(rng.integers(1, 5))) for s in start)
            channel[region] += 6
        channel[tuple(slice(n // 2 - 1, n // 2 + 1) for n in shape)] += 6
        channel[tuple(slice(n - 2, n) for n in shape)] += 6
    return logits


@pytest.mark.parametrize("case", range(48))
def test_equals_dense_interpolation_for_any_orientation_spacing_and_crop(case: int) -> None:
    rng = np.random.default_rng(case)
    cells, shape = rng.integers(6, 40, 3).tolist(), rng.integers(20, 45, 3).tolist()
    image = _grid(
        (0, 1, 2), (1, 1, 1), rng.uniform(0.7, 1.5, 3).tolist(), rng.uniform(-50, 50, 3).tolist()
    )
    middle = image[:-1, :-1] @ ((np.array(cells) - 1) / 2) + image[:-1, -1]
    scan = _grid(*ORIENTATIONS[case], rng.uniform(0.4, 2.5, 3).tolist(), (0, 0, 0))
    scan = _centred(scan, shape, middle + rng.uniform(-6, 6, 3))
    assert _assert_is_dense(_few_blobs(rng, cells, 2), image, scan, shape) > 0


@pytest.mark.parametrize("rank", [2, 3])
def test_equals_dense_interpolation_where_the_axes_are_oblique(rank: int) -> None:
    for case in range(10):
        rng = np.random.default_rng(case)
        cells, shape = rng.integers(6, 36, rank).tolist(), rng.integers(20, 40, rank).tolist()
        scan = np.eye(rank + 1)
        scan[:-1, :-1] = np.linalg.qr(rng.standard_normal((rank, rank)))[0]
        scan[:-1, :-1] *= rng.uniform(0.5, 2, rank)
        scan[0, 1] += 0.3  # gantry tilt
        scan = _centred(scan, shape, (np.array(cells) - 1) / 2 * 1.1)
        image = np.diag([*[1.1] * rank, 1.0])
        assert _assert_is_dense(_few_blobs(rng, cells), image, scan, shape) > 0


def test_equals_dense_interpolation_in_two_dimensions() -> None:
    for case, axes in enumerate([(0, 1), (1, 0)] * 4):
        rng = np.random.default_rng(case)
        flips = rng.choice((1, -1), 2).tolist()
        scan = _centred(_grid(axes, flips, (0.7, 1.3), (0, 0)), (50, 41), np.array([20.0, 14.0]))
        logits = _few_blobs(rng, (37, 18), 2)
        assert _assert_is_dense(logits, np.diag([1.2, 1.6, 1.0]), scan, (50, 41)) > 0


def test_two_dimensions_take_the_affine_of_monai() -> None:
    """4x4, with the slice's own axis and position in it."""
    image = torch.diag(torch.tensor([2.0, 2.0, 7.0, 1.0]))
    image[2, 3] = 50
    logits = torch.tensor([[[-1.0, 1.0]]])
    mask = logits_to_scan(logits, image, scan_affine=torch.eye(4), scan_shape=(1, 4))
    # Columns at 0, 0.5, 1 and 1.5 cells.
    assert mask.tolist() == [[[0, 0, 1, 1]]]


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_dense_noise_needs_every_block(scale: float) -> None:
    """Half of all cells are positive, so no block is left out and each border shows."""
    rng = np.random.default_rng(1)
    cells = (33, 17, 35)
    shape = [int(n / scale) + 5 if scale >= 1 else 70 for n in cells]
    scan = np.diag([scale, scale, scale, 1.0])
    scan[:-1, -1] = -1.3
    logits = rng.standard_normal((1, *cells)).astype(np.float32)
    _assert_is_dense(logits, np.eye(4), scan, shape)


def test_one_cell_by_hand() -> None:
    """A cell of +1 among -1 is positive to half a cell's distance along an axis."""
    logits = torch.full((1, 40, 40), -1.0)
    for row, column in ((16, 15), (20, 33), (0, 39)):
        logits[0, row, column] = 1
    scan = torch.tensor([[0.4, 0, 0.0], [0, 0.4, 0.0], [0, 0, 1]], dtype=torch.float64)
    mask = logits_to_scan(logits, torch.eye(3), scan_affine=scan, scan_shape=(100, 100))[0]
    centres = np.arange(100) * 0.4
    for row, column in ((16, 15), (20, 33)):
        from_row, from_column = np.abs(centres - row), np.abs(centres - column)
        tent = np.clip(1 - from_row, 0, 1)[:, None] * np.clip(1 - from_column, 0, 1)[None]
        near = (from_row < 3)[:, None] & (from_column < 3)[None]
        np.testing.assert_array_equal(mask.numpy()[near], tent[near] > 0.5)
    # At the border the cell's value goes on to the face, 39.5 cells: columns 97 and 98 of 0.4,
    # but a row further 0.6 x 0.8 is less than a half.
    assert mask[:3, 96:].tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_every_cell_of_the_image_reaches_to_its_face_and_no_further() -> None:
    logits = torch.ones(1, 18, 5, 1)
    scan = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0]))
    scan[:3, 3] = torch.tensor([-2.0, -2.0, -2.0])
    mask = logits_to_scan(logits, torch.eye(4), scan_affine=scan, scan_shape=(50, 30, 9))
    expected = torch.zeros(50, 30, 9, dtype=torch.uint8)
    # Faces lie at -0.5 and n - 0.5 cells, on voxel 3 and 2 n + 3.
    expected[3:40, 3:14, 3:6] = 1
    assert torch.equal(mask[0], expected)


def test_the_same_grid_is_a_threshold() -> None:
    logits = torch.randn(2, 20, 18, 5, generator=torch.Generator().manual_seed(0))
    logits[0, 3, 3, 3] = 0
    affine = torch.tensor(_grid((1, 0, 2), (1, -1, 1), (0.7, 0.7, 1.25), (-170.3, 82.1, 33.3)))
    mask = logits_to_scan(logits, affine, scan_affine=affine.clone(), scan_shape=(20, 18, 5))
    assert mask.dtype == torch.uint8 and torch.equal(mask, (logits > 0).to(torch.uint8))


def test_a_crop_returns_to_where_it_was() -> None:
    logits = torch.randn(1, 20, 18, 7, generator=torch.Generator().manual_seed(0))
    crop = torch.eye(4, dtype=torch.float64)
    crop[:3, 3] = torch.tensor([3.0, 5.0, 1.0])
    mask = logits_to_scan(logits, crop, scan_affine=torch.eye(4), scan_shape=(30, 30, 8))
    expected = torch.zeros(30, 30, 8, dtype=torch.uint8)
    expected[3:23, 5:23, 1:8] = logits[0] > 0
    assert torch.equal(mask[0], expected)


@pytest.mark.parametrize("rank", [2, 3])
def test_nothing_found_is_an_empty_mask(rank: int) -> None:
    logits = torch.full((2, *(9,) * rank), -0.5)
    logits[0] = 0
    scan = 0.7 * torch.eye(rank + 1)
    mask = logits_to_scan(logits, torch.eye(4), scan_affine=scan, scan_shape=(12,) * rank)
    assert mask.shape == (2, *(12,) * rank) and not mask.any()


def test_an_image_outside_the_scan_leaves_nothing() -> None:
    away = torch.eye(4)
    away[0, 3] = 100
    mask = logits_to_scan(
        torch.ones(1, 9, 9, 9), away, scan_affine=torch.eye(4), scan_shape=(12, 12, 12)
    )
    assert not mask.any()


def test_thick_slices_take_the_value_at_their_centre() -> None:
    logits = torch.full((1, 4, 4, 30), -1.0)
    logits[0, 2, 2, [10, 17]] = 5
    scan = torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0]))
    mask = logits_to_scan(logits, torch.eye(4), scan_affine=scan, scan_shape=(4, 4, 6))
    assert mask.nonzero().tolist() == [[0, 2, 2, 2]]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits = torch.zeros(1, 5, 5)
    logits[0, 2, 2] = value
    with pytest.raises(ValueError, match="logits must be finite, got"):
        logits_to_scan(logits, torch.eye(3), scan_affine=torch.eye(3), scan_shape=(5, 5))


def test_logits_of_other_axes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the 3 axes of the scan, got shape \(1, 5, 5\)"):
        logits_to_scan(
            torch.zeros(1, 5, 5), torch.eye(4), scan_affine=torch.eye(4), scan_shape=(5, 5, 5)
        )
