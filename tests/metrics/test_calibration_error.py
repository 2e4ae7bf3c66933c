from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import brier_score_loss

from metrics import (
    CalibrationError,
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
    assert brier_score(risks, labels) == pytest.approx(
        brier_score_loss(labels, risks, pos_label=1, labels=[0, 1])
    )
    assert expected_calibration_error(risks, labels) == pytest.approx(_ece_by_loop(risks, labels))


def test_by_hand():
    """Ten bins of two scans: five forecasts of .2 with one cancer each in two, five of .9."""
    risks = np.repeat(np.linspace(0.05, 0.95, 10), 2)
    labels = np.array([0, 0] * 5 + [1, 1] * 5)
    gaps = [0.05, 0.15, 0.25, 0.35, 0.45]
    assert expected_calibration_error(risks, labels) == pytest.approx(np.mean(gaps))
    assert brier_score(risks, labels) == pytest.approx(np.mean(np.square(gaps)))


def test_equal_mass_bins():
    risks, labels = _cohort(57)
    bins = reliability_bins(risks, labels)
    assert sorted(bins.scans) == [5] * 3 + [6] * 7
    expected = [
        (risks[scans].mean(), labels[scans].mean(), len(scans))
        for _, scans in sorted(_bins_by_loop(risks).items())
    ]
    np.testing.assert_allclose(np.array(bins).T, expected)


def test_ties_share_a_bin_whatever_the_order():
    risks, labels = np.full(40, 0.25), np.array([1] * 10 + [0] * 30)
    assert expected_calibration_error(risks, labels) == 0
    assert reliability_bins(risks, labels).scans.tolist() == [40]


def test_intervals_against_a_plain_loop():
    risks, labels = _cohort(40)
    patients = [f"p{i // 2}" for i in range(40)]
    errors = calibration_errors(risks, labels, patients, suffix="_after")
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
    assert errors["brier_after"] == pytest.approx(brier_score(risks, labels))
    assert errors["brier_after_low"] < errors["brier_after"] < errors["brier_after_high"]


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
            function(risks, labels)


def _epoch(batches) -> dict[str, float]:
    engine = Engine(lambda _engine, batch: batch)
    CalibrationError().attach(engine, "calibration")
    return engine.run(batches).metrics


def _batch(logits, labels, known, first: int):
    return {"logits": torch.tensor(logits)}, {
        "risk": torch.tensor(labels, dtype=torch.float32),
        "risk_known": torch.tensor(known, dtype=torch.float32),
        "patient_id": [f"p{first + i}" for i in range(len(labels))],
    }


def test_the_metric_judges_the_last_year_where_it_is_known():
    batches = [
        _batch([[-5.0, 0.5], [0.1, 2.0]], [[0, 1], [0, 0]], [[1, 1], [1, 0]], 0),
        _batch([[-1.0, -0.5]], [[0, 0]], [[1, 1]], 2),
    ]
    risks = 1 / (1 + np.exp([-0.5, 0.5]))
    metrics = _epoch(batches)
    assert metrics["brier"] == pytest.approx(brier_score(risks, [1, 0]))
    assert metrics["ece"] == pytest.approx(expected_calibration_error(risks, [1, 0]))
    assert set(metrics) == {"brier", "ece"}  # two patients have no interval


def test_nothing_of_an_epoch_before_outlives_one_without_labels():
    engine = Engine(lambda _engine, batch: batch)
    CalibrationError().attach(engine, "calibration")
    assert "ece" in engine.run([_batch([[0.5]], [[1]], [[1]], 0)]).metrics
    assert engine.run([_batch([[0.5]], [[1]], [[0]], 0)]).metrics == {}
