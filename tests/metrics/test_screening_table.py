from __future__ import annotations

import numpy as np
import pytest

from metrics import ScreeningTable, screening_table

# 4 cancers, 3 of them recalled; 6 without, 2 of them recalled.
RECALLED = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
CANCER = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
ALIKE = [1.0] * 10


def test_the_cohort_by_hand():
    expected = ScreeningTable(prevalence=0.4, recalled=500, found=300, missed=100, false_alarms=200)
    assert screening_table(RECALLED, CANCER, ALIKE) == pytest.approx(expected)


def test_reweighted_by_hand():
    """1 in 100: 7.5 of 10 cancers are found, a third of 990 others are recalled."""
    expected = ScreeningTable(
        prevalence=0.01, recalled=337.5, found=7.5, missed=2.5, false_alarms=330
    )
    assert screening_table(RECALLED, CANCER, ALIKE, prevalence=0.01) == pytest.approx(expected)


@pytest.mark.parametrize("prevalence", [None, 0.01])
def test_weights_act_as_repeated_scans(prevalence):
    times = [3, 1, 2, 2, 5, 1, 1, 4, 2, 1]
    recalled, cancer = np.repeat(RECALLED, times), np.repeat(CANCER, times)
    expected = screening_table(recalled, cancer, np.ones(22), prevalence=prevalence)
    assert screening_table(RECALLED, CANCER, times, prevalence=prevalence) == pytest.approx(
        expected
    )


def test_one_scan():
    assert screening_table([True], [True], [1]) == (1, 1000, 1000, 0, 0)
    assert screening_table([True], [False], [1]) == (0, 1000, 0, 0, 1000)


def test_a_class_that_the_cohort_lacks():
    assert screening_table([1, 0], [0, 0], [1, 1], prevalence=0.0) == (0, 500, 0, 0, 500)
    with pytest.raises(ValueError, match=r"of prevalence 0\.01 needs positives, got 0 in 2 scans"):
        screening_table([1, 0], [0, 0], [1, 1], prevalence=0.01)
    with pytest.raises(ValueError, match=r"of prevalence 0\.01 needs negatives, got 0 in 2 scans"):
        screening_table([1, 0], [1, 1], [1, 1], prevalence=0.01)


def test_what_has_no_table_is_refused():
    with pytest.raises(ValueError, match=r"of at least one, got \(0,\), \(0,\) and \(0,\)"):
        screening_table([], [], [])
    with pytest.raises(ValueError, match=r"got \(2,\), \(1,\) and \(2,\)"):
        screening_table([1, 0], [1], [1, 1])
    for prevalence in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"prevalence must be from 0 to 1, got {prevalence}"):
            screening_table([1, 0], [1, 0], [1, 1], prevalence=prevalence)
