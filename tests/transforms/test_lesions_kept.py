from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from benchmarks.lesions_kept import STRIDES, place_reading, placed_readings, ways_that_lose
from benchmarks.report import Row
from cohorts.lidc_nodules import LidcContour, LidcNodule, LidcReading
from transforms import downsample_mask


@pytest.fixture(scope="module")
def lesions() -> list[np.ndarray]:
    """The voxels of every 46th reading of LIDC-IDRI."""
    return [placed.voxels for placed in itertools.islice(placed_readings(), 0, None, 46)]


def lost_by_hand(voxels: np.ndarray, stride: int) -> list[str]:
    """Which voxels each way looks at, in whole numbers: none of it calls torch."""
    ways = []
    if not (voxels % stride == stride // 2).all(axis=1).any():
        ways.append("nearest")
    # At an even stride a cell's centre lies amid eight voxels, whose mean is trilinear's value.
    amid = np.isin(voxels % stride, (stride // 2 - 1, stride // 2)).all(axis=1)
    _, counts = np.unique(voxels[amid] // stride, axis=0, return_counts=True)
    if not (counts > 4).any():
        ways.append("trilinear")
    return ways


@pytest.mark.parametrize("stride", STRIDES)
def test_no_lidc_reading_is_lost(lesions: list[np.ndarray], stride: int) -> None:
    assert len(lesions) == 150
    losses = [ways_that_lose(voxels, stride) for voxels in lesions]
    assert not any("any overlap" in ways for ways in losses)
    assert losses == [lost_by_hand(voxels, stride) for voxels in lesions]
    assert any("nearest" in ways for ways in losses)


@pytest.mark.parametrize("stride", STRIDES)
def test_a_reading_marks_the_cells_that_it_touches(lesions: list[np.ndarray], stride: int) -> None:
    for voxels in lesions[::10]:
        low = voxels.min(axis=0) // stride
        cells = tuple((voxels.max(axis=0) // stride - low + 1).tolist())
        mask = torch.zeros(1, *(stride * count for count in cells), dtype=torch.uint8)
        mask[(0, *torch.from_numpy(voxels - stride * low).T)] = 1
        touched = np.unique(voxels // stride, axis=0) - low
        assert np.array_equal(downsample_mask(mask, cells)[0].nonzero().numpy(), touched)


def test_a_single_voxel_that_sampling_loses() -> None:
    mask = torch.zeros(1, 16, 16, 8)
    mask[0, 5, 10, 3] = 1
    kept = downsample_mask(mask, (4, 4, 2))
    assert kept.nonzero().tolist() == [[0, 1, 2, 0]]
    for mode in ("nearest", "nearest-exact", "trilinear"):
        assert not (interpolate(mask[None], size=(4, 4, 2), mode=mode) > 0.5).any()
    assert ways_that_lose(np.array([[5, 10, 3]]), 4) == ["nearest", "trilinear"]
    assert ways_that_lose(np.array([[6, 10, 2]]), 4) == ["trilinear"]


def test_a_reading_lies_where_its_outline_does() -> None:
    ring = [(c, r) for c, r in itertools.product(range(10, 14), range(20, 25))]
    ring = [(c, r) for c, r in ring if c in (10, 13) or r in (20, 24)]
    ring.sort(key=lambda point: np.arctan2(point[1] - 22, point[0] - 11.5))
    point = LidcContour(-6.0, True, np.array([(12, 22)], dtype=np.int32))
    ringed = LidcContour(-4.0, True, np.array([*ring, ring[0]], dtype=np.int32))
    reading = LidcReading(1, {}, (ringed, point))
    nodule = LidcNodule("LIDC-IDRI-0000", 1, 0, (1.0, 1.0, 2.0), (reading,))
    placed = place_reading(nodule, reading, [-10.0, -8.0, -6.0, -4.0, -2.0])
    inside = [(c, r, 3) for c in (11, 12) for r in (21, 22, 23)]
    assert sorted(map(tuple, placed.voxels.tolist())) == sorted([*inside, (12, 22, 2)])
    assert (placed.outline_slices, placed.slices) == (1, 2)


def test_nothing_lost_has_no_ratio() -> None:
    assert Row("lost", 0, 3, "of 9").ratio is None
    assert Row("lost", 2, 3, "of 9").ratio == 1.5
