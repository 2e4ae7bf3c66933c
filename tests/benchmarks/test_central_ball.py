from __future__ import annotations

import numpy as np
import pytest

from benchmarks.central_ball import central_ball


def _cube(radius, *, wall=False):
    """A ball of 40 HU in lung of -860, with a wall that touches it through a thin vessel."""
    off = np.indices((31, 31, 31)) - 15
    ball = (off**2).sum(axis=0) <= radius**2
    hu = np.where(ball, 40, -860).astype(np.int16)
    if wall:
        hu[:, 15, 15] = 40
        hu[27:] = 40
    return hu, ball


@pytest.mark.parametrize("radius", [2, 4, 8])
def test_a_ball_in_lung_is_found_to_the_voxel(radius):
    hu, ball = _cube(radius)
    np.testing.assert_array_equal(central_ball(hu), ball)


def test_the_wall_is_cut_off():
    hu, ball = _cube(6, wall=True)
    found = central_ball(hu) > 0
    assert found[ball].all()
    assert np.count_nonzero(found & ~ball) < 30  # some of the vessel
    assert not found[27:].any()


def test_the_threshold_is_half_way():
    hu, _ = _cube(5)
    hu[9] = np.where(hu[9] > -500, hu[9], -400)  # above half way of -860 and 40, which is -410
    touching = central_ball(hu)
    assert touching[9].sum() > 1
    hu[9][hu[9] == -400] = -420
    assert central_ball(hu)[9].sum() == 0


def test_a_middle_of_air_takes_what_is_nearest():
    hu = np.full((31, 31, 31), -860, np.int16)
    hu[14:17, 14:17, 14:17] = -600  # what the middle is measured by
    hu[15, 15, 15] = -900
    found = central_ball(hu)
    assert found.any()
    assert found[15, 15, 15] == 0


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(40, "must hold lung below -500 HU, got 40 or more"), (-860, "must hold tissue above -860")],
)
def test_a_cube_of_one_value_is_refused(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        central_ball(np.full((9, 9, 9), value, np.int16))
