from __future__ import annotations

import numpy as np
import pytest
from sksurv.nonparametric import kaplan_meier_estimator

from metrics import censoring_weights


def _known(years, event, year):
    """As of ``transforms.yearly_risk``: all years of a cancer, of others those followed through."""
    return (np.asarray(event) == 1) | (np.asarray(years) >= year)


def test_by_hand():
    # At 1 year one of four is censored, at 3 years one of two: 3/4 and 3/8 are left.
    years, event = [1, 2, 3, 4, 0.5], [0, 1, 0, 1, 1]
    weights = censoring_weights(years, event, year=4)
    assert weights[[1, 3, 4]] == pytest.approx([4 / 3, 8 / 3, 1])
    # Known to the end of year 3 are the last two years' scans too, each for 4/3.
    assert censoring_weights(years, event, year=3)[1:] == pytest.approx([4 / 3, 4 / 3, 4 / 3, 1])


def test_ties():
    """A cancer comes before the censoring of its time, and who was followed to it is known."""
    years, event = [2, 2, 2, 2], [1, 0, 0, 0]
    assert censoring_weights(years, event, year=2).tolist() == [1, 1, 1, 1]
    assert censoring_weights(years, event, year=3)[0] == 1


@pytest.mark.parametrize("year", [1, 3, 6])
@pytest.mark.parametrize("rounded", [True, False])
def test_the_prevalence_is_kaplan_meiers(year, rounded):
    rng = np.random.default_rng(year)
    years, event = rng.random(300) * 8, rng.random(300) < 0.4
    if rounded:
        years = np.ceil(years * 2) / 2
    known = _known(years, event, year)
    weights = censoring_weights(years, event, year=year)
    assert weights[known].sum() == pytest.approx(300)
    times, survival = kaplan_meier_estimator(event, years)
    expected = 1 - survival[times <= year][-1]
    cancer = event & (years <= year)
    assert weights[cancer].sum() / 300 == pytest.approx(expected)


def test_a_simulated_cohort_has_its_true_prevalence():
    """Half are diagnosed within six years; few are followed for so long."""
    rng = np.random.default_rng(0)
    diagnosis = np.where(rng.random(20_000) < 0.5, rng.random(20_000) * 6, 99)
    end = rng.exponential(3, 20_000)
    event = diagnosis <= end
    years = np.minimum(diagnosis, end)
    known = _known(years, event, 6)
    weights = censoring_weights(years, event, year=6)
    assert event[known].mean() > 0.75
    assert np.average(event[known], weights=weights[known]) == pytest.approx(0.5, abs=0.02)


def test_without_censoring_all_count_alike():
    assert censoring_weights([1, 2, 3], [1, 1, 1], year=2).tolist() == [1, 1, 1]
    assert censoring_weights([7, 6, 3], [0, 0, 1], year=6).tolist() == [1, 1, 1]
    assert censoring_weights([], [], year=6).shape == (0,)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="event must be 0 or 1, got 2"):
        censoring_weights([1, 2], [0, 2], year=1)
    with pytest.raises(ValueError, match="event_years must be finite, got nan"):
        censoring_weights([1, np.nan], [0, 1], year=1)
    with pytest.raises(ValueError, match=r"event_years must be \(2,\) as the scores, got \(1,\)"):
        censoring_weights([1], [0, 1], year=1)
