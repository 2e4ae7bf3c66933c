from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import average_precision_score

from metrics import (
    ScanAveragePrecision,
    bootstrap_interval,
    censoring_weights,
    weighted_scan_average_precision,
)


def _plain(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(weighted_scan_average_precision(scores, labels, np.ones((1, len(scores))))[0])


def test_hand_values() -> None:
    assert _plain(np.array([4, 3, 2, 1]), np.array([1, 0, 1, 0])) == pytest.approx((1 + 2 / 3) / 2)
    assert _plain(np.array([1, 1, 1, 1]), np.array([1, 0, 0, 0])) == 0.25
    assert _plain(np.array([2, 1]), np.array([1, 0])) == 1


@pytest.mark.parametrize("levels", [3, 10, 10**9])
def test_agrees_with_sklearn_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores, labels = rng.integers(levels, size=200), rng.integers(2, size=200)
    expected = average_precision_score(labels, scores)
    assert _plain(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_weights_are_those_of_sklearn_and_act_as_repeated_scans() -> None:
    rng = np.random.default_rng(6)
    scores, labels = rng.integers(8, size=30), rng.integers(2, size=30)
    counts = rng.multinomial(30, np.full(30, 1 / 30), size=20)
    repeated = [
        average_precision_score(np.repeat(labels, row), np.repeat(scores, row)) for row in counts
    ]
    values = weighted_scan_average_precision(scores, labels, counts.astype(float))
    assert values == pytest.approx(repeated, abs=1e-12)

    weights = rng.random((20, 30)) * (counts > 0)
    expected = [average_precision_score(labels, scores, sample_weight=row) for row in weights]
    values = weighted_scan_average_precision(scores, labels, weights)
    assert values == pytest.approx(expected, abs=1e-12)


def test_a_row_without_positives_has_no_value() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    values = weighted_scan_average_precision([0, 1, 2], [0, 0, 1], weights)
    assert np.isnan(values[0]) and values[1:].tolist() == [1, 1]
    assert np.isnan(weighted_scan_average_precision([], [], np.ones((2, 0)))).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1 NaN in 2 scans"):
        weighted_scan_average_precision([0.1, np.nan], [0, 1], np.ones((1, 2)))
    with pytest.raises(ValueError, match="labels must be 0 or 1, got 2"):
        weighted_scan_average_precision([0.1, 0.2], [0, 2], np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"weights must be \(resamples, 2\), got \(1, 3\)"):
        weighted_scan_average_precision([0.1, 0.2], [0, 1], np.ones((1, 3)))


def _run(metric: ScanAveragePrecision, labels: list[int], name: str) -> tuple[Engine, torch.Tensor]:
    """Two years, of which the second is unknown for the last scan."""
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, name)
    count = len(labels)
    logits = torch.randn(count, 2, generator=torch.Generator().manual_seed(1))
    risk = torch.tensor([[0, label] for label in labels]).float()
    known = torch.ones(count, 2)
    known[-1, 1] = 0
    ids = [f"p{index}" for index in range(count)]
    engine.run([({"logits": logits}, {"risk": risk, "risk_known": known, "patient_id": ids})])
    return engine, logits[:-1, 1]


def test_the_metric_judges_the_last_year_under_the_attached_name() -> None:
    labels = [0, 1] * 10
    engine, scores = _run(ScanAveragePrecision(), labels, "val_ap")
    values = engine.state.metrics
    assert set(values) == {"val_ap", "val_ap_low", "val_ap_high"}
    assert values["val_ap"] == pytest.approx(average_precision_score(labels[:-1], scores))
    assert values["val_ap_low"] < values["val_ap"] < values["val_ap_high"]


def test_scans_of_a_yearly_network_have_their_censoring_weights() -> None:
    rng = np.random.default_rng(4)
    event, years = rng.random(60) < 0.5, np.round(rng.random(60) * 8, 1)
    known = event | (years >= 6)
    label = event & (years <= 6)
    scores = rng.normal(size=60) + label
    targets = {
        "risk": torch.tensor(label)[:, None].expand(60, 6).float(),
        "risk_known": torch.tensor(known)[:, None].expand(60, 6).float(),
        "event": torch.tensor(event)[:, None].float(),
        "event_years": torch.tensor(years)[:, None],
        "patient_id": [f"p{index}" for index in range(60)],
    }
    metric = ScanAveragePrecision()
    metric.update(({"logits": torch.tensor(scores)[:, None].expand(60, 6)}, targets))
    weights = censoring_weights(years, event, year=6)[known]
    expected = average_precision_score(label[known], scores[known], sample_weight=weights)
    values = metric.compute()
    assert values["average_precision"] == pytest.approx(expected)
    assert abs(expected - average_precision_score(label[known], scores[known])) > 0.02
    assert values["average_precision_low"] < expected < values["average_precision_high"]


@pytest.mark.parametrize(("label", "positives"), [(0, 0), (1, 5)])
def test_one_class_leaves_the_value_out_with_one_warning(
    label: int, positives: int, caplog: pytest.LogCaptureFixture
) -> None:
    metric = ScanAveragePrecision()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            engine, _ = _run(metric, [label] * 6, "average_precision")
            assert engine.state.metrics == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"average precision needs both classes, got {positives} positives in 5 scans: left out"
    ]


def test_a_value_of_an_earlier_epoch_is_dropped() -> None:
    metric = ScanAveragePrecision()
    engine, _ = _run(metric, [0, 1] * 10, "average_precision")
    assert len(engine.state.metrics) == 3
    metric.reset()
    metric.completed(engine, "average_precision")
    assert engine.state.metrics == {}


def test_the_interval_covers_the_value() -> None:
    rng = np.random.default_rng(5)
    labels = (rng.random(500) < 0.1).astype(int)
    scores = rng.normal(size=500) + labels
    low, high, skipped = bootstrap_interval(
        partial(weighted_scan_average_precision, scores, labels), [f"p{i}" for i in range(500)]
    )
    assert low < average_precision_score(labels, scores) < high and skipped == 0
