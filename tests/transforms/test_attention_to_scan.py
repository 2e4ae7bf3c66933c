from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation, ResampleToMatch, Spacing, SpatialCrop
from scipy import ndimage

from transforms import attention_to_scan, feature_affine

ORIENTATIONS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def oriented(axes: tuple[int, ...], flips: tuple[int, ...], spacing: np.ndarray) -> torch.Tensor:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[world, axis] = flip * spacing[axis]
    tilt = np.deg2rad(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine = turn @ affine
    affine[:3, 3] = (31, -7, 212)
    return torch.from_numpy(affine)


@pytest.mark.parametrize("case", range(48))
def test_the_peak_returns_for_any_spacing_orientation_and_crop(case: int) -> None:
    """A scan is turned to RAS, resampled and cropped; one feature cell is lit and brought back."""
    rng = np.random.default_rng(case)
    spacing = rng.uniform(0.6, 3.0, 3)
    shape = tuple(int(n) for n in rng.integers(24, 40, 3))
    scan = MetaTensor(torch.zeros(1, *shape), oriented(*ORIENTATIONS[case], spacing))
    seen: Any = Orientation("RAS")(scan)
    if case % 2:
        seen = Spacing(pixdim=(1.5, 1.3, 2.0))(seen)
    start = rng.integers(0, 5, 3)
    stop = np.array(seen.shape[1:]) - rng.integers(0, 5, 3)
    seen = SpatialCrop(roi_start=start, roi_end=stop)(seen)
    cells = [-(-n // stride) for n, stride in zip(seen.shape[1:], (4, 3, 2), strict=True)]
    attention = MetaTensor(
        torch.zeros(1, *cells), feature_affine(seen.affine, seen.shape[1:], cells)
    )
    peak = tuple(int(n) for n in rng.integers(0, cells))
    attention[(0, *peak)] = 7.0

    out = attention_to_scan(attention, scan)

    assert out.shape == scan.shape and torch.equal(out.affine, scan.affine)
    found = np.unravel_index(int(out[0].argmax()), shape)
    world = scan.affine.numpy() @ [*found, 1.0]
    cell = np.linalg.inv(attention.affine.numpy()) @ world
    # The found voxel's centre lies within the cell or half a voxel beyond it.
    cell_mm = attention.affine[:3, :3].norm(dim=0).numpy()
    voxel_cells = spacing.max() / cell_mm.min()
    assert np.abs(cell[:3] - peak).max() <= 0.5 + voxel_cells / 2
    assert 0 < out.max() <= 7


def test_equals_monai_between_cell_centres() -> None:
    affine = oriented((1, 0, 2), (-1, 1, -1), np.array([0.7, 0.8, 2.0]))
    scan = MetaTensor(torch.zeros(1, 20, 24, 10), affine)
    attention = MetaTensor(torch.rand(1, 5, 6, 5), feature_affine(affine, (20, 24, 10), (5, 6, 5)))
    ours = attention_to_scan(attention, scan).as_tensor()
    peer = ResampleToMatch(mode="bilinear", padding_mode="border")(attention, scan)
    assert torch.allclose(ours, torch.as_tensor(peer).float(), atol=1e-4)


def test_keeps_a_constant_and_is_zero_outside_the_crop() -> None:
    scan = MetaTensor(torch.zeros(1, 16, 16, 16))
    crop: Any = SpatialCrop(roi_start=(4, 0, 8), roi_end=(12, 16, 16))(scan)
    affine = feature_affine(crop.affine, crop.shape[1:], (2, 4, 4))
    out = attention_to_scan(MetaTensor(torch.ones(1, 2, 4, 4), affine), scan)
    inside = torch.zeros(1, 16, 16, 16)
    inside[:, 4:12, :, 8:] = 1
    assert torch.allclose(out.as_tensor(), inside, atol=1e-6)


def test_thick_slices_do_not_step_over_the_peak() -> None:
    scan = MetaTensor(torch.zeros(1, 8, 8, 6), torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
    for cell in range(30):
        attention = MetaTensor(torch.zeros(1, 8, 8, 30))
        attention[0, 4, 3, cell] = 1
        attention.affine[2, 3] = -2
        out = attention_to_scan(attention, scan)
        assert int(out[0, 4, 3].argmax()) == cell // 5 and out.max() > 0


def test_two_dimensions() -> None:
    scan = MetaTensor(torch.zeros(1, 8, 6), torch.diag(torch.tensor([-1.0, 2.0, 1.0, 1.0])))
    attention = MetaTensor(torch.zeros(1, 4, 3), feature_affine(scan.affine, (8, 6), (4, 3)))
    attention[0, 3, 0] = 1
    out = attention_to_scan(attention, scan)
    assert out.shape == (1, 8, 6) and int(out.argmax()) // 6 in (6, 7) and int(out.argmax()) % 6 < 2


@pytest.mark.parametrize("case", range(12))
def test_the_peak_returns_under_gantry_tilt(case: int) -> None:
    """The network sees the sheared scan resampled to straight axes."""
    rng = np.random.default_rng(case)
    axes, flips = ORIENTATIONS[4 * case]
    shear = torch.eye(4, dtype=torch.float64)
    shear[1, 2] = np.tan(np.deg2rad(15 + case))
    affine = oriented(axes, flips, rng.uniform(0.6, 3.0, 3)) @ shear
    scan = MetaTensor(torch.zeros(1, 30, 36, 28), affine)
    seen: Any = Spacing(pixdim=(1.5, 1.5, 1.5))(Orientation("RAS")(scan))
    cells = [-(-n // 4) for n in seen.shape[1:]]
    grid = feature_affine(seen.affine, seen.shape[1:], cells)
    # A cell in the middle of the scan: the corners of the straight grid lie outside of it.
    middle = affine.numpy() @ [*rng.uniform((8, 10, 8), (22, 26, 20)), 1.0]
    peak = np.round(np.linalg.inv(grid.numpy()) @ middle)[:3].astype(int)
    attention = MetaTensor(torch.zeros(1, *cells), grid)
    attention[(0, *peak)] = 7.0

    out = attention_to_scan(attention, scan)

    assert out.shape == scan.shape and torch.equal(out.affine, scan.affine)
    found = np.unravel_index(int(out[0].argmax()), out.shape[1:])
    cell = np.linalg.inv(grid.numpy()) @ affine.numpy() @ [*found, 1.0]
    assert np.abs(cell[:3] - peak).max() <= 1 and 0 < out.max() <= 7


@pytest.mark.parametrize("rank", [2, 3])
def test_equals_scipy_where_the_axes_are_not_parallel(rank: int) -> None:
    affine = oriented((0, 1, 2), (1, -1, 1), np.array([0.7, 0.8, 2.0]))[:3, :3]
    square = torch.eye(rank + 1, dtype=torch.float64)
    square[:rank, :rank] = affine[:rank, :rank]
    shape, cells = (20, 18, 9)[:rank], (5, 1, 4)[:rank]
    values = np.random.default_rng(rank).random(cells)
    grid = torch.diag(torch.tensor([3.0, 12.0, 4.0, 1.0][-rank - 1 :], dtype=torch.float64))
    grid[:rank, -1] = torch.tensor([1.0, -3.0, 2.0])[:rank]
    attention = MetaTensor(torch.from_numpy(values)[None], grid)
    out = attention_to_scan(attention, MetaTensor(torch.zeros(1, *shape), square))

    voxels = np.indices(shape).reshape(rank, -1)
    to_cell = np.linalg.inv(grid.numpy()) @ square.numpy()
    position = to_cell[:rank, :rank] @ voxels + to_cell[:rank, -1:]
    sampled = ndimage.map_coordinates(values, position, order=1, mode="nearest")
    inside = ((position >= -0.5) & (position <= np.array(cells)[:, None] - 0.5)).all(axis=0)
    assert 0 < inside.sum() < inside.size
    assert np.allclose(out[0].numpy().ravel(), sampled * inside, atol=1e-5)


def test_a_zero_map_stays_zero_and_nothing_warns_of_a_stale_affine() -> None:
    scan = MetaTensor(torch.zeros(1, 16, 16, 16), torch.eye(4), {"filename_or_obj": "scan.nii"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = attention_to_scan(MetaTensor(torch.zeros(1, 4, 4, 4), torch.eye(4)), scan)
    assert not out.any() and out.meta["filename_or_obj"] == "scan.nii"
