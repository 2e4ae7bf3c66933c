from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Orientationd, Spacingd, SpatialCrop

from transforms import CropToLungsd, ResampleMaskd, resample_mask

_GRIDS = [(0.7, 0.7, 1.25), (1.5, 1.5, 2.5), (3.0, 3.0, 3.0)]


def _volume(values: np.ndarray, affine: np.ndarray) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values)[None], torch.from_numpy(affine))


def _grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...], start_mm: float) -> MetaTensor:
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = start_mm
    return _volume(np.zeros(shape, np.float32), affine)


def _points_mm(volume: MetaTensor) -> np.ndarray:
    """Places of the voxels' centres ``(*spatial, 3)`` in mm."""
    affine = volume.affine.numpy()
    index = np.moveaxis(np.indices(volume.shape[1:]), 0, -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def _spheres(grid: MetaTensor, spheres: list[tuple[np.ndarray, float]]) -> MetaTensor:
    points = _points_mm(grid)
    labels = np.zeros(grid.shape[1:], np.int16)
    for label, (centre, diameter) in enumerate(spheres, start=1):
        labels[np.linalg.norm(points - centre, axis=-1) <= diameter / 2] = label
    return _volume(labels, grid.affine.numpy())


def _voxel_mm3(volume: MetaTensor) -> float:
    return abs(float(torch.linalg.det(volume.affine[:3, :3])))


def _nearest(mask: MetaTensor, target: MetaTensor) -> np.ndarray:
    """Labels of the mask's voxels that lie nearest; both grids are along the same axes."""
    steps, start = mask.affine.numpy().diagonal()[:3], mask.affine.numpy()[:3, 3]
    index = np.rint((_points_mm(target) - start) / steps).astype(int)
    inside = ((index >= 0) & (index < mask.shape[1:])).all(axis=-1)
    labels = np.zeros(target.shape[1:], np.int16)
    labels[inside] = mask.numpy()[0][tuple(index[inside].T)]
    return labels


@pytest.mark.parametrize("spacing_mm", _GRIDS)
def test_every_nodule_keeps_its_volume_to_half_a_voxel_and_its_place(
    spacing_mm: tuple[float, ...],
) -> None:
    rng = np.random.default_rng(1)
    scan = _grid((30, 30, 17), (0.7, 0.7, 1.25), 0.0)
    shape = tuple(math.ceil(26 / step) for step in spacing_mm)
    relative = []
    for diameter in (3.0, 4.0, 8.0) * 4:
        target = _grid(shape, spacing_mm, -rng.uniform(1, 3))
        mask = _spheres(scan, [(rng.uniform(6, 14, 3), diameter)])
        ours = resample_mask(mask, target)
        assert ours.shape == target.shape and ours.dtype == torch.int16
        assert torch.equal(ours.affine, target.affine)
        wanted = int(mask.sum()) * _voxel_mm3(mask) / _voxel_mm3(target)
        assert int(ours.sum()) == max(1, round(wanted))
        places = [_points_mm(volume)[volume.numpy()[0] > 0] for volume in (mask, ours)]
        off_mm = np.abs(places[0].mean(axis=0) - places[1].mean(axis=0))
        assert (off_mm <= 0.5 * np.add(spacing_mm, (0.7, 0.7, 1.25))).all()
        relative.append((int(ours.sum()) / wanted, int(_nearest(mask, target).sum()) / wanted))
    spread = np.std(relative, axis=0)
    assert spread[0] <= 0.75 * spread[1] + 1e-9


def test_it_covers_what_the_nodule_covers_most_by_a_loop() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((6, 5, 4)) < 0.4).astype(np.int16)
    mask = _volume(labels, np.diag([1.0, 1.0, 2.0, 1.0]))
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 0.5, 1.5, 0.25  # edges at -0.5, 0.5 and -1.25 mm
    target = _volume(np.zeros((4, 4, 4), np.float32), affine)
    coverage = np.zeros(target.shape[1:])
    for source in np.argwhere(labels):
        for cell in np.ndindex(*coverage.shape):
            share = 1.0
            for axis in range(3):
                width, step = (1, 1, 2)[axis], (2, 2, 3)[axis]
                low = source[axis] * width - width / 2
                start = affine[axis, 3] + cell[axis] * step - step / 2
                share *= max(0, min(low + width, start + step) - max(low, start)) / step
            coverage[cell] += share
    ours = resample_mask(mask, target).numpy()[0] > 0
    count = round(coverage.sum())
    # Parts of half a voxel are cut off at a quarter at worst.
    assert ours.sum() == count
    assert coverage[ours].sum() >= 0.95 * np.sort(coverage, axis=None)[-count:].sum()


def _follows(move: Any, mask: MetaTensor, image: MetaTensor) -> None:
    assert torch.equal(resample_mask(mask, move(image)), move(mask))


def test_on_its_own_grid_a_mask_stays_as_it_is_in_all_orientations() -> None:
    rng = np.random.default_rng(3)
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[:3, 3] = 5, -6, 7
    mask = _volume(rng.integers(0, 6, (9, 8, 7)).astype(np.int16), affine)
    image = _volume(rng.random((9, 8, 7)), affine)
    assert torch.equal(resample_mask(mask, image), mask)
    for codes in ("LPS", "SAR", "IRP"):
        _follows(Orientation(codes, labels=None), mask, image)
    _follows(SpatialCrop(roi_start=(2, 3, 0), roi_end=(6, 8, 7)), mask, image)


def test_a_2d_mask_and_a_scan_without_a_nodule() -> None:
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    labels = np.zeros((20, 30), np.int16)
    labels[4:8, 6:12] = 3
    mask = _volume(labels, affine)
    half = np.diag([1.0, 1.0, 1.0, 1.0])
    half[:2, 3] = 0.25
    image = _volume(np.zeros((10, 15), np.float32), half)
    ours = resample_mask(mask, image)
    assert ours.shape == image.shape and int((ours == 3).sum()) == 6 == int((ours > 0).sum())
    assert not resample_mask(_volume(0 * labels, affine), image).any()


def test_the_smaller_of_two_keeps_the_voxel_that_both_want() -> None:
    labels = np.zeros((12, 12, 12), np.int16)
    labels[3:9, 3:9, 3:9] = 1  # eight target voxels, of the first of which
    labels[3:5, 3:5, 3:5] = 2  # it covers 19 of 27 parts and this the others
    mask = _volume(labels, np.eye(4))
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = 1
    ours = resample_mask(mask, _volume(np.zeros((4, 4, 4), np.float32), affine))
    assert int((ours == 2).sum()) == 1 and ours[0, 1, 1, 1] == 2
    assert int((ours == 1).sum()) == 7


def test_of_a_nodule_cut_by_the_image_only_the_part_inside_counts() -> None:
    labels = np.zeros((20, 8, 8), np.int16)
    labels[6:14, 2:6, 2:6] = 1
    labels[17:19, 2:4, 2:4] = 2
    mask = _volume(labels, np.eye(4))
    # Voxel edges at -0.5, 1.5, ...: of x the image has those up to 9.5.
    ours = resample_mask(mask, _grid((5, 4, 4), (2.0, 2.0, 2.0), 0.5))
    assert int((ours == 1).sum()) == 2 * 2 * 2 and not (ours == 2).any()
    outside = _grid((5, 4, 4), (2.0, 2.0, 2.0), 200.5)
    assert not resample_mask(mask, outside).any()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
@pytest.mark.parametrize("spacing_mm", _GRIDS)
def test_nodules_stay_in_place_through_the_networks_grid(
    codes: str, spacing_mm: tuple[float, ...]
) -> None:
    shape = (60, 56, 40)
    scan = _grid(shape, (1.1, 1.1, 2.0), -20.0)
    spheres = [(np.array([10.3, 8.8, 22.4]), 4.0), (np.array([24.9, 21.2, 31.7]), 9.0)]
    mask = _spheres(scan, spheres)
    lungs = np.zeros(shape, np.int16)
    lungs[10:28, 8:50, 5:36], lungs[32:50, 8:50, 5:36] = 1, 2
    image = _volume(np.where(lungs > 0, -850, 40).astype(np.float32), scan.affine.numpy())
    turned = Orientation(codes, labels=None)
    prepare = Compose(
        [
            CropToLungsd("image", margin_mm=5, lungs_key="lungs"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=spacing_mm, mode="bilinear", padding_mode="border"),
            ResampleMaskd(),
        ]
    )
    sample = {"image": image, "mask": mask, "lungs": _volume(lungs, scan.affine.numpy())}
    out = prepare({key: turned(volume) for key, volume in sample.items()})
    assert out["mask"].shape == out["image"].shape
    for label in (1, 2):
        places = [_points_mm(volume)[volume.numpy()[0] == label] for volume in (mask, out["mask"])]
        off_mm = np.abs(places[0].mean(axis=0) - places[1].mean(axis=0))
        assert (off_mm <= 0.5 * np.array(spacing_mm)).all()
        wanted = len(places[0]) * _voxel_mm3(mask) / _voxel_mm3(out["mask"])
        assert len(places[1]) == max(1, round(wanted))


def test_a_turned_grid_keeps_place_and_volume() -> None:
    angle = math.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    scan = _grid((40, 40, 24), (0.8, 0.8, 1.5), 0.0)
    mask = _spheres(scan, [(np.array([15.0, 16.0, 17.0]), 7.0)])
    affine = turn @ np.diag([1.5, 1.5, 2.5, 1.0])
    affine[:3, 3] = 8, -6, 2
    target = _volume(np.zeros((30, 30, 14), np.float32), affine)
    ours = resample_mask(mask, target)
    assert int(ours.sum()) == round(int(mask.sum()) * _voxel_mm3(mask) / _voxel_mm3(target))
    off_mm = _points_mm(ours)[ours.numpy()[0] > 0].mean(axis=0) - (15, 16, 17)
    assert np.linalg.norm(off_mm) < 0.75
