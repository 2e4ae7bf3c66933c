from __future__ import annotations

import logging
import time
from functools import partial

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import roc_auc_score

from metrics import (
    TimeDependentAuc,
    bootstrap_interval,
    weighted_concordance,
    weighted_scan_average_precision,
    weighted_time_dependent_auc,
)


def _reference(scores: np.ndarray, years: np.ndarray, event: np.ndarray, year: float) -> float:
    followed = pytest.importorskip("sksurv.util").Surv.from_arrays(event, years)
    auc = pytest.importorskip("sksurv.metrics").cumulative_dynamic_auc
    return float(auc(followed, followed, scores, [year])[0][0])


def _cohort(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and times with ties; one scan is censored last of all, as the reference needs."""
    rng = np.random.default_rng(seed)
    scores, years = rng.integers(levels, size=80).astype(float), rng.integers(1, 28, size=80) / 4
    event = rng.random(80) < 0.5
    years[0], event[0] = 9, False
    return scores, years, event


def test_hand_value() -> None:
    # Of four, one is censored at 1 year: the probability of that not to happen is 3 / 4 for the
    # event at 2 years (four were at risk), so that event weighs 4 / 3 and the one at 0.5 years 1.
    scores, years, event = [1, 9, 3, 2, 2], [0.5, 1, 2, 3, 4], [1, 0, 1, 0, 0]
    values = weighted_time_dependent_auc(
        scores, np.ones((1, 5)), event_years=years, event=event, year=2
    )
    assert values == pytest.approx((0 * 1 + 1 * 4 / 3) / (1 + 4 / 3))


@pytest.mark.parametrize("levels", [4, 10**9])
@pytest.mark.parametrize("year", [1, 2.5, 5, 6])
def test_weights_act_as_repeated_scans_of_scikit_survival(levels: int, year: float) -> None:
    scores, years, event = _cohort(1, levels)
    rng = np.random.default_rng(2)
    counts = rng.multinomial(80, np.full(80, 1 / 80), size=20)
    counts[:, 0] = 1
    expected = [
        _reference(np.repeat(scores, row), np.repeat(years, row), np.repeat(event, row), year)
        for row in counts
    ]
    values = weighted_time_dependent_auc(
        scores, counts.astype(float), event_years=years, event=event, year=year
    )
    assert values == pytest.approx(expected, abs=1e-12)


def test_without_censoring_it_is_the_auroc_of_the_year() -> None:
    scores, years, _ = _cohort(3, 6)
    values = weighted_time_dependent_auc(
        scores, np.ones((1, 80)), event_years=years, event=np.ones(80), year=3
    )
    assert values == pytest.approx(roc_auc_score(years <= 3, scores), abs=1e-12)


def test_a_row_without_cases_or_controls_has_no_value() -> None:
    scores, years, event = [3, 2, 1, 0], [1, 1, 2, 2], [1, 0, 1, 0]
    weights = np.array([[1.0, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    values = weighted_time_dependent_auc(scores, weights, event_years=years, event=event, year=1)
    assert values[0] == 1 and np.isnan(values[1:]).all()
    # At the last time of all nobody is left, though its censoring leaves a probability of 0.
    assert np.isnan(
        weighted_time_dependent_auc(scores, weights, event_years=years, event=event, year=2)
    ).all()
    assert np.isnan(
        weighted_time_dependent_auc([], np.ones((2, 0)), event_years=[], event=[], year=1)
    ).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="event_years must be finite, got inf"):
        weighted_time_dependent_auc(
            [0, 1], np.ones((1, 2)), event_years=[1, np.inf], event=[0, 1], year=1
        )
    with pytest.raises(ValueError, match=r"weights must be \(resamples, 2\), got \(1, 3\)"):
        weighted_time_dependent_auc(
            [0, 1], np.ones((1, 3)), event_years=[1, 2], event=[0, 1], year=1
        )


def _run(
    metric: TimeDependentAuc, years: np.ndarray, event: np.ndarray
) -> tuple[Engine, torch.Tensor]:
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "by_year")
    logits = torch.randn(len(years), 3, generator=torch.Generator().manual_seed(5))
    targets = {
        "event_years": torch.tensor(years)[:, None],
        "event": torch.tensor(event).float()[:, None],
        "patient_id": [f"p{index}" for index in range(len(years))],
    }
    engine.run([({"logits": logits}, targets)])
    return engine, logits


def test_the_metric_compares_each_years_logit() -> None:
    _, years, event = _cohort(6, 3)
    engine, logits = _run(TimeDependentAuc(3), years, event)
    values = engine.state.metrics
    assert set(values) == {
        f"auc_year_{year}{end}" for year in (1, 2, 3) for end in ("", "_low", "_high")
    }
    for year in (1, 2, 3):
        key = f"auc_year_{year}"
        expected = _reference(logits[:, year - 1].double().numpy(), years, event, year)
        assert values[key] == pytest.approx(expected, abs=1e-12)
        assert values[f"{key}_low"] < expected < values[f"{key}_high"]


def test_years_without_an_event_are_left_out_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metric = TimeDependentAuc(3)
    years = np.array([1.5, 2.5, 2.5, 2.5] * 5)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            engine, _ = _run(metric, years, years < 2)
            assert set(engine.state.metrics) == {"auc_year_2", "auc_year_2_low", "auc_year_2_high"}
        metric.reset()
        metric.completed(engine, "by_year")
    assert engine.state.metrics == {}
    assert [record.getMessage() for record in caplog.records] == [
        "the AUC of a year needs an event by then and a scan followed for longer, "
        "missing for year 1, 3 of 20 scans: left out"
    ]


def test_logits_of_other_years_are_refused() -> None:
    with pytest.raises(ValueError, match="logits must be of 6 years, got 1"):
        TimeDependentAuc(6).update(({"logits": torch.zeros(4, 1)}, {}))


def test_a_thousand_resamples_of_a_thousand_scans_take_a_second_at_most() -> None:
    rng = np.random.default_rng(7)
    scores, years, event = rng.normal(size=1000), rng.random(1000) * 8, rng.random(1000) < 0.3
    ids = [f"p{index}" for index in range(1000)]
    for statistic in (
        partial(weighted_scan_average_precision, scores, event),
        partial(weighted_concordance, scores, event_years=years, event=event),
        partial(weighted_time_dependent_auc, scores, event_years=years, event=event, year=3),
    ):
        start = time.process_time()
        bootstrap_interval(statistic, ids)
        assert time.process_time() - start < 3  # 0.15 s alone on one core; it may be shared
