from __future__ import annotations

import math

import pytest

from metrics.recist_response import recist_response, target_lesions


@pytest.mark.parametrize(
    ("baseline", "nadir", "current", "response"),
    [
        (50, 50, 0, "CR"),
        (50, 50, 35, "PR"),
        (50, 50, 35.1, "SD"),
        (50, 50, 50, "SD"),
        (50, 50, 59.9, "SD"),
        (50, 50, 60, "PD"),
        # 20 % and more, but under 5 mm.
        (20, 20, 24.9, "SD"),
        (20, 20, 25, "PD"),
        # Over the nadir, and yet 30 % under the baseline.
        (100, 40, 48, "PD"),
        (100, 0, 4, "PR"),
        (100, 0, 5, "PD"),
        (41.1, 41.1, 49.32, "PD"),
    ],
)
def test_responses_by_hand(baseline: float, nadir: float, current: float, response: str) -> None:
    assert recist_response(baseline, nadir, current) == response


def test_a_new_lesion_is_progress() -> None:
    assert recist_response(50, 50, 0, new_lesion=True) == "PD"


def test_targets_are_the_two_largest_that_are_measurable() -> None:
    assert target_lesions([9.9, 12, 10, 30]) == [3, 1]
    assert target_lesions([9.9, 3]) == []
    assert target_lesions([]) == []


@pytest.mark.parametrize("sums", [(0, 0, 5), (50, 50, -1), (math.nan, 1, 1), (50, 50, math.inf)])
def test_bad_sums_are_refused(sums: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="sums of diameters must be finite"):
        recist_response(*sums)


def test_a_nadir_above_the_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="nadir_mm must be at most baseline_mm, got 60 and 50"):
        recist_response(50, 60, 40)
