from __future__ import annotations

import numpy as np
import pytest

from metrics import weighted_median


def test_with_counts_it_is_the_median_of_the_repeated_values() -> None:
    rng = np.random.default_rng(0)
    for scans in (1, 2, 7, 12):
        values = rng.integers(0, 6, size=scans).astype(float)
        counts = rng.integers(0, 4, size=(200, scans))
        counts[:, 0] += 1
        expected = [np.median(np.repeat(values, row)) for row in counts]
        assert weighted_median(values, counts.astype(float)).tolist() == expected


def test_without_weight_or_without_scans_there_is_none() -> None:
    assert np.isnan(weighted_median([1.0, 2.0], np.array([[0.0, 0.0]]))).all()
    assert np.isnan(weighted_median([], np.ones((2, 0)))).tolist() == [True, True]


def test_weights_of_other_scans_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(scans,\) and \(resamples, scans\), got"):
        weighted_median([1.0, 2.0], np.ones((1, 3)))
