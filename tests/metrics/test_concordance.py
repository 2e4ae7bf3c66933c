from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from metrics import Concordance, weighted_concordance


def _plain(scores: list[float], event_years: list[float], event: list[int]) -> float:
    return float(
        weighted_concordance(
            scores, np.ones((1, len(scores))), event_years=event_years, event=event
        )[0]
    )


def _reference(scores: np.ndarray, years: np.ndarray, event: np.ndarray) -> float:
    index = pytest.importorskip("sksurv.metrics").concordance_index_censored
    return float(index(event, years, scores)[0])


def test_hand_values() -> None:
    # The event at 1 year beats two of three; the one at 2 years beats the later one.
    assert _plain([2, 3, 1, 0], [1, 2, 3, 4], [1, 1, 0, 0]) == 4 / 5
    assert _plain([5, 5, 5], [1, 2, 3], [1, 0, 0]) == 0.5
    # At one time, an event is comparable with a censored scan but not with another event.
    assert _plain([1, 0, 2], [1, 1, 1], [1, 0, 0]) == 0.5
    assert np.isnan(_plain([1, 0], [1, 1], [1, 1]))
    # A scan censored before the event says nothing.
    assert _plain([0, 2, 1], [1, 2, 3], [0, 1, 0]) == 1


@pytest.mark.parametrize("levels", [3, 12, 10**9])
@pytest.mark.parametrize("event_rate", [0.1, 0.6])
def test_weights_act_as_repeated_scans_of_scikit_survival(levels: int, event_rate: float) -> None:
    rng = np.random.default_rng(levels)
    scores, years = rng.integers(levels, size=80).astype(float), rng.integers(1, 20, size=80) / 4
    event = rng.random(80) < event_rate
    counts = rng.multinomial(80, np.full(80, 1 / 80), size=20)
    expected = [
        _reference(*(np.repeat(column, row) for column in (scores, years, event))) for row in counts
    ]
    values = weighted_concordance(scores, counts.astype(float), event_years=years, event=event)
    assert values == pytest.approx(expected, abs=1e-12)


def test_blocks_of_events_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    scores, years, event = rng.normal(size=50), rng.random(50), rng.random(50) < 0.5
    weights = rng.random((4, 50))
    whole = weighted_concordance(scores, weights, event_years=years, event=event)
    monkeypatch.setattr("metrics.concordance._BLOCK_ELEMENTS", 120)
    assert weighted_concordance(scores, weights, event_years=years, event=event) == pytest.approx(
        whole, abs=1e-12
    )


def test_a_row_without_a_comparable_pair_has_no_value() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    values = weighted_concordance([2, 1, 0], weights, event_years=[1, 2, 3], event=[1, 0, 0])
    assert values[0] == 1 and np.isnan(values[1])
    assert np.isnan(weighted_concordance([], np.ones((2, 0)), event_years=[], event=[])).all()


def test_bad_input_is_refused() -> None:
    ones = np.ones((1, 2))
    with pytest.raises(ValueError, match="event must be 0 or 1, got 2"):
        weighted_concordance([0, 1], ones, event_years=[1, 2], event=[0, 2])
    with pytest.raises(ValueError, match=r"event_years must be \(2,\) as the scores, got \(3,\)"):
        weighted_concordance([0, 1], ones, event_years=[1, 2, 3], event=[0, 1])
    with pytest.raises(ValueError, match="event_years must be finite, got nan"):
        weighted_concordance([0, 1], ones, event_years=[1, np.nan], event=[0, 1])
    with pytest.raises(ValueError, match=r"weights must be \(resamples, 2\), got \(1, 3\)"):
        weighted_concordance([0, 1], np.ones((1, 3)), event_years=[1, 2], event=[0, 1])


def _run(metric: Concordance, event: torch.Tensor) -> tuple[Engine, torch.Tensor, torch.Tensor]:
    """Batches of seven, so that the last one is short; three yearly logits."""
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, "concordance")
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(len(event), 3, generator=generator)
    years = torch.rand(len(event), 1, generator=generator)
    ids = [f"p{index}" for index in range(len(event))]
    engine.run(
        [
            (
                {"logits": logits[i : i + 7]},
                {
                    "event_years": years[i : i + 7],
                    "event": event[i : i + 7, None],
                    "patient_id": ids[i : i + 7],
                },
            )
            for i in range(0, len(event), 7)
        ]
    )
    return engine, logits[:, -1], years[:, 0]


def test_the_metric_takes_the_last_years_logit() -> None:
    event = torch.tensor([1.0, 0.0, 0.0] * 10)
    engine, scores, years = _run(Concordance(), event)
    values = engine.state.metrics
    assert set(values) == {"concordance", "concordance_low", "concordance_high"}
    expected = _reference(scores.numpy(), years.numpy(), event.bool().numpy())
    assert values["concordance"] == pytest.approx(expected, abs=1e-12)
    assert values["concordance_low"] < expected < values["concordance_high"]


def test_no_event_leaves_the_value_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    metric = Concordance()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            engine, *_ = _run(metric, torch.zeros(12))
            assert engine.state.metrics == {}
    assert [record.getMessage() for record in caplog.records] == [
        "concordance needs an event and a scan that was followed for longer, "
        "got 0 events in 12 scans: left out"
    ]
    assert metric.compute() == {}
    metric.reset()
    assert metric.compute() == {}


def test_targets_of_another_shape_are_refused() -> None:
    targets = {"event_years": torch.ones(4, 2), "event": torch.ones(4, 1), "patient_id": "abcd"}
    with pytest.raises(ValueError, match=r"\(B, 1\), got \(4, 6\), \(4, 2\) and \(4, 1\)"):
        Concordance().update(({"logits": torch.zeros(4, 6)}, targets))
