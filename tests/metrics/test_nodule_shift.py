from __future__ import annotations

import numpy as np
import pytest

from metrics import nodule_shift

# In the frame of one scan, far from each other and from any shift of each other.
PLACES = np.array([[60.0, -20, 10], [-70, 40, 90], [50, 30, 160], [-45, -35, 240]])
SHIFT = np.array([8.0, -11, 1741])


def test_the_shift_of_most_nodules_is_found_beside_new_and_gone_ones() -> None:
    jitter = np.array([[3.0, 0, 0], [0, -4, 0], [0, 0, 2], [0, 0, 0]])
    after = np.concatenate([(PLACES + SHIFT + jitter)[[2, 0, 1]], [[5, 90, 1700.0]]])
    before = np.concatenate([[[-5.0, 80, 300]], PLACES[:3]])
    found = nodule_shift(before, after)
    assert found.source == "nodules"
    # The median of three shifts, on each axis of its own.
    assert found.shift_mm == pytest.approx((8, -11, 1741))


def test_frames_that_agree_are_left_where_too_few_nodules_tell() -> None:
    assert nodule_shift(PLACES[:2], PLACES[:1] + 6) == ((0, 0, 0), "none")
    assert nodule_shift([], PLACES) == ((0, 0, 0), "none")
    assert nodule_shift(PLACES, []) == ((0, 0, 0), "none")
    assert nodule_shift([], []) == ((0, 0, 0), "none")


def test_two_nodules_do_not_tell_a_shift() -> None:
    with pytest.raises(
        ValueError, match=r"must be given.*2 before, 2 after, and 0 pairs within 15"
    ):
        nodule_shift(PLACES[:2], PLACES[:2] + SHIFT)


def test_three_of_many_do_not_tell_a_shift() -> None:
    rng = np.random.default_rng(0)
    others = rng.uniform(-2000, -1000, (5, 3)), rng.uniform(3000, 4000, (5, 3))
    with pytest.raises(ValueError, match="8 before, 8 after, and 0 pairs"):
        nodule_shift(
            np.concatenate([PLACES[:3], others[0]]),
            np.concatenate([PLACES[:3] + SHIFT, others[1]]),
        )


def test_a_position_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="before_mm must be"):
        nodule_shift([[0, 0, np.nan]], PLACES)
