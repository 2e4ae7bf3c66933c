from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from metrics import (
    bootstrap_interval,
    brier_score,
    calibration_errors,
    expected_calibration_error,
    reliability_bins,
)


def _cohort(scans: int, steps: int = 10**6):
    rng = np.random.default_rng(scans)
    risks = np.round(rng.random(scans) * steps) / steps
    return risks, (rng.random(scans) < risks**2).astype(int)


def _bins_by_loop(risks) -> dict[int, list[int]]:
    """Bin to scans, each scan placed by the number of risks below its own."""
    bins: dict[int, list[int]] = {}
    for scan, risk in enumerate(risks):
        below = sum(other < risk for other in risks)
        bins.setdefault(int(np.floor(10 * below / len(risks))), []).append(scan)
    return bins


def _ece_by_loop(risks, labels) -> float:
    error = 0.0
    for scans in _bins_by_loop(risks).values():
        gap = abs(np.mean([risks[i] for i in scans]) - np.mean([labels[i] for i in scans]))
        error += len(scans) / len(risks) * gap
    return error


@pytest.mark.parametrize("scans", [1, 2, 9, 10, 11, 57, 200])
@pytest.mark.parametrize("steps", [4, 10**6])  # with and without ties
def test_against_scikit_learn_and_a_plain_loop(scans, steps):
    risks, labels = _cohort(scans, steps)
    assert brier_score(risks, labels, np.ones(len(risks))) == pytest.approx(
        brier_score_loss(labels, risks, pos_label=1, labels=[0, 1])
    )
    assert expected_calibration_error(risks, labels, np.ones(len(risks))) == pytest.approx(
        _ece_by_loop(risks, labels)
    )


def test_by_hand():
    """Ten bins of two scans: five forecasts of .2 with one cancer each in two, five of .9."""
    risks = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    labels = np.array([0, 0] * 5 + [1, 1] * 5)
    gaps = [0.05, 0.15, 0.25, 0.35, 0.45]
    assert expected_calibration_error(risks, labels, np.ones(len(risks))) == pytest.approx(
        np.mean(gaps)
    )
    assert brier_score(risks, labels, np.ones(len(risks))) == pytest.approx(
        np.mean(np.square(gaps))
    )


def test_equal_mass_bins():
    risks, labels = _cohort(57)
    bins = reliability_bins(risks, labels, np.ones(len(risks)))
    assert sorted(bins.scans) == [5] * 3 + [6] * 7
    expected = [
        (risks[scans].mean(), labels[scans].mean(), len(scans))
        for _, scans in sorted(_bins_by_loop(risks).items())
    ]
    np.testing.assert_allclose(np.array(bins).T, expected)


def test_ties_share_a_bin_whatever_the_order():
    risks, labels = np.full(40, 0.25), np.array([1] * 10 + [0] * 30)
    assert expected_calibration_error(risks, labels, np.ones(len(risks))) == 0
    assert reliability_bins(risks, labels, np.ones(len(risks))).scans.tolist() == [40]


def test_intervals_against_a_plain_loop():
    risks, labels = _cohort(40)
    patients = [f"p{i // 2}" for i in range(40)]
    errors = calibration_errors(risks, labels, np.ones(40), patient_ids=patients, suffix="_after")
    bins = _bins_by_loop(risks)

    def ece(weights):
        return np.array(
            [
                sum(
                    abs(sum(row[i] * (risks[i] - labels[i]) for i in scans))
                    for scans in bins.values()
                )
                / row.sum()
                for row in weights
            ]
        )

    interval = bootstrap_interval(ece, patients)
    assert (errors["ece_after_low"], errors["ece_after_high"]) == pytest.approx(interval[:2])
    assert errors["brier_after"] == pytest.approx(brier_score(risks, labels, np.ones(len(risks))))
    assert errors["brier_after_low"] < errors["brier_after"] < errors["brier_after_high"]


def test_weights_by_hand():
    """Three bins of one scan: 3/6, 2/6 and 1/6 of the weight, apart by .2, .5 and .1."""
    risks, labels, weights = [0.2, 0.5, 0.9], [0, 1, 1], [3, 2, 1]
    gaps = np.array([0.2, 0.5, 0.1])
    assert brier_score(risks, labels, weights) == pytest.approx((weights @ gaps**2) / 6)
    assert expected_calibration_error(risks, labels, weights) == pytest.approx(weights @ gaps / 6)
    errors = calibration_errors(risks, labels, weights, patient_ids=["a", "b", "c"])
    assert errors == pytest.approx({"brier": weights @ gaps**2 / 6, "ece": weights @ gaps / 6})


def test_a_bin_has_the_weighted_share():
    """Tied scans share a bin: .4 three times in the first, with one cancer of weight 2 in 5."""
    bins = reliability_bins([0.4, 0.4, 0.4, 0.8], [1, 0, 0, 1], [2, 1, 2, 7])
    assert (bins.observed.tolist(), bins.scans.tolist()) == ([0.4, 1], [3, 1])
    assert bins.mean_risk == pytest.approx([0.4, 0.8])


def test_weights_are_in_the_intervals():
    """A scan of twice the weight acts as two scans of its patient; equal bins of two risks."""
    risks, labels = np.tile([0.3, 0.8], 12), (np.arange(24) % 3 == 0).astype(int)
    patients, times = [f"p{i // 2}" for i in range(24)], np.arange(24) % 4 + 1
    weighted = calibration_errors(risks, labels, times, patient_ids=patients)
    repeated = calibration_errors(
        np.repeat(risks, times),
        np.repeat(labels, times),
        np.ones(times.sum()),
        patient_ids=np.repeat(patients, times).tolist(),
    )
    assert len(weighted) == 6
    assert weighted == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("risks", "labels", "sentence"),
    [
        ([], [], "needs at least one scan, got none"),
        ([0.5, 1.5], [0, 1], "risks must be from 0 to 1, got 1.5"),
        ([float("nan")], [1], "must not be NaN"),
        ([0.5], [2], "labels must be 0 or 1, got 2"),
        ([0.5], [0, 1], r"got \(1,\) and \(2,\)"),
    ],
)
def test_what_has_no_error_is_refused(risks, labels, sentence):
    for function in (brier_score, expected_calibration_error, reliability_bins):
        with pytest.raises(ValueError, match=sentence):
            function(risks, labels, np.ones(len(risks)))
