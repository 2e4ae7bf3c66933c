from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.nodule_volume import phantom_scan
from metrics.nodule_diameters import nodule_diameters
from metrics.nodule_mass import nodule_mass_mg
from metrics.nodule_measurements import nodule_measurements
from metrics.nodule_volume import nodule_volume

SHAPE = (270, 110, 60)


@pytest.fixture(scope="module")
def scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return phantom_scan(SHAPE)


def test_crops_measure_as_the_whole_scan(scan: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, mask, affine = scan
    spacing = tuple(np.diag(affine)[:3])
    instances, measured = nodule_measurements(image, mask, affine)
    assert len(measured) == 10
    assert [one.voxel_count_mm3 for one in measured] == sorted(
        (one.voxel_count_mm3 for one in measured), reverse=True
    )
    for label, one in list(enumerate(measured, start=1))[::3]:
        inside = instances.labels == label
        other = (instances.labels > 0) & ~inside
        volume = nodule_volume(image, inside, spacing, excluded=other)
        assert one[1:5] == pytest.approx(tuple(volume), rel=1e-5)
        diameters = nodule_diameters(inside, affine)
        assert one.longest_mm == pytest.approx(diameters.longest_mm)
        assert one.perpendicular_mm == pytest.approx(diameters.perpendicular_mm)
        assert one.mean_diameter_mm == pytest.approx(diameters.mean_mm)
        assert one.mass_mg == pytest.approx(nodule_mass_mg(image, inside, spacing))
        centre = affine @ [*np.argwhere(inside).mean(axis=0), 1]
        assert one.centre_mm == pytest.approx(tuple(centre[:3]))


def test_every_orientation_gives_the_same(
    scan: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    image, mask, affine = scan
    _, expected = nodule_measurements(image, mask, affine)
    last = np.array(SHAPE) - 1
    for order in itertools.permutations(range(3)):
        flips = np.random.default_rng(order[0]).choice([1, -1], 3)
        # Index in the turned array to index in the scan: flip the axes that were reversed.
        to_scan = np.zeros((4, 4))
        to_scan[3, 3] = 1
        for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
            to_scan[source, axis] = flip
            to_scan[source, 3] = last[source] if flip < 0 else 0
        turn = tuple(slice(None, None, int(flip)) for flip in flips)
        _, found = nodule_measurements(
            image.transpose(order)[turn], mask.transpose(order)[turn], affine @ to_scan
        )
        for one, other in zip(found, expected, strict=True):
            assert one.centre_mm == pytest.approx(other.centre_mm)
            assert one[1:] == pytest.approx(other[1:], rel=1e-3)


def test_an_empty_mask_has_none(scan: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, mask, affine = scan
    instances, measured = nodule_measurements(image, np.zeros_like(mask), affine)
    assert measured == [] and instances.boxes == ()


def test_a_mask_outside_of_the_lung_is_measured_without_density() -> None:
    image = np.full((40, 40, 40), 40, dtype=np.int16)
    image[:8] = -1000
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[30:34, 18:22, 18:22] = 1
    _, (one,) = nodule_measurements(image, mask, np.eye(4))
    assert one.voxel_count_mm3 == 64
    assert (one.weighted_mm3, one.nodule_hu, one.lung_hu) == (None, None, None)
    assert one.mass_mg == pytest.approx(64 * 1.04)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 3000), (-1, 1)])
def test_values_that_are_not_hu_are_refused(low: float, high: float) -> None:
    image = np.linspace(low, high, 8000).reshape(20, 20, 20)
    with pytest.raises(ValueError, match="image_hu must be HU, with air below -500, got a minimum"):
        nodule_measurements(image, np.ones(image.shape, dtype=np.uint8), np.eye(4))


def test_other_bad_input_is_refused() -> None:
    image, mask = np.full((8, 8, 8), -800.0), np.zeros((8, 8, 8), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"image_hu must be \(8, 8, 8\) as the mask"):
        nodule_measurements(image[1:], mask, np.eye(4))
    for step in (0, np.nan):
        with pytest.raises(ValueError, match="spacing_mm must be three finite numbers above 0"):
            nodule_measurements(image, mask, np.diag([1, step, 1, 1]))
    with pytest.raises(ValueError, match="mask must hold 0 and 1 only, got 0 to 7"):
        mask[0, 0, 0] = 7
        nodule_measurements(image, mask, np.eye(4))
    with pytest.raises(ValueError, match=r"affine must be \(4, 4\), got \(3, 3\)"):
        nodule_measurements(image, mask, np.eye(3))
