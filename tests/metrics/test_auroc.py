from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import roc_auc_score

from metrics import Auroc, auroc, weighted_auroc


def _naive(scores: np.ndarray, labels: np.ndarray) -> float:
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[labels == 1]
        for n in scores[labels == 0]
    ]
    return sum(wins) / len(wins)


def test_hand_values() -> None:
    assert auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auroc([1, 2, 3], [0, 1, 1]) == 1
    assert auroc([3, 2, 1], [0, 1, 1]) == 0
    assert auroc([7, 7, 7, 7], [0, 1, 1, 0]) == 0.5
    assert auroc([-np.inf, np.inf], [0, 1]) == 1


@pytest.mark.parametrize("levels", [3, 10, 10**9])
def test_agrees_with_sklearn_and_a_naive_loop_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores, labels = rng.integers(levels, size=200), rng.integers(2, size=200)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auroc(scores, labels) == pytest.approx(_naive(scores, labels), abs=1e-12)


def test_weights_act_as_repeated_scans() -> None:
    rng = np.random.default_rng(6)
    scores, labels = rng.integers(8, size=30), rng.integers(2, size=30)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=20).astype(float)
    expected = [
        roc_auc_score(np.repeat(labels, row.astype(int)), np.repeat(scores, row.astype(int)))
        for row in weights
    ]
    assert weighted_auroc(scores, labels, weights) == pytest.approx(expected, abs=1e-12)


def test_a_row_of_one_class_has_no_value() -> None:
    weights = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    values = weighted_auroc([0, 1, 2], [0, 0, 1], weights)
    assert np.isnan(values[0]) and values[1] == 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="both classes, got 2 positives in 2 scans"):
        auroc([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="both classes, got 0 positives in 0 scans"):
        auroc([], [])
    with pytest.raises(ValueError, match="got 1 NaN in 2 scans"):
        auroc([0.1, np.nan], [0, 1])
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, got 2"):
        auroc([0.1, 0.2], [0, 2])
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        auroc([0.1, 0.2], [0, 1, 1])
    with pytest.raises(ValueError, match=r"weights must be \(resamples, 2\), got \(1, 3\)"):
        weighted_auroc([0.1, 0.2], [0, 1], np.ones((1, 3)))


def _run(metric: Auroc, logits: torch.Tensor, labels: list[int], name: str = "auroc") -> Engine:
    """Three scans a batch, so that the last one is short."""
    engine = Engine(lambda _, batch: batch)
    metric.attach(engine, name)
    ids = [f"p{index}" for index in range(len(labels))]
    risk = torch.tensor(labels, dtype=torch.float32)[:, None]
    engine.run(
        [
            (
                {"logits": logits[i : i + 3]},
                {
                    "risk": risk[i : i + 3],
                    "risk_known": torch.ones_like(risk[i : i + 3]),
                    "patient_id": ids[i : i + 3],
                },
            )
            for i in range(0, len(labels), 3)
        ]
    )
    return engine


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_metric_gathers_an_epoch_under_the_attached_name(dtype: torch.dtype) -> None:
    logits = torch.randn(20, 1, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = [0, 1] * 10
    metrics = _run(Auroc(), logits, labels, name="val_auroc").state.metrics
    assert set(metrics) == {"val_auroc", "val_auroc_low", "val_auroc_high"}
    expected = roc_auc_score(labels, logits[:, 0].float())
    assert metrics["val_auroc"] == pytest.approx(expected, abs=1e-12)
    assert metrics["val_auroc_low"] < expected < metrics["val_auroc_high"]


def test_one_class_gives_minus_one_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    metric = Auroc()
    with caplog.at_level(logging.WARNING, logger="metrics.auroc"):
        for _ in range(2):
            engine = _run(metric, torch.zeros(4, 1), [1, 1, 1, 1])
            assert engine.state.metrics == {"auroc": -1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "AUROC needs both classes, got 4 positives in 4 scans: reported as -1"
    ]


def test_few_patients_have_a_value_but_no_interval() -> None:
    engine = _run(Auroc(), torch.tensor([[0.0], [1.0], [2.0]]), [0, 1, 0])
    assert engine.state.metrics == {"auroc": 0.5}


def test_an_interval_of_an_earlier_epoch_is_dropped() -> None:
    metric = Auroc()
    engine = _run(metric, torch.randn(20, 1), [0, 1] * 10)
    assert "auroc_low" in engine.state.metrics
    metric.reset()
    metric.completed(engine, "auroc")
    assert engine.state.metrics == {"auroc": -1.0}


def test_yearly_logits_are_judged_by_the_last_year_where_that_is_known() -> None:
    generator = torch.Generator().manual_seed(2)
    logits, risk = torch.randn(40, 3, generator=generator), torch.zeros(40, 3)
    risk[::2, 2] = 1
    known = (torch.rand(40, 3, generator=generator) < 0.7).float()
    ids = [f"p{index}" for index in range(40)]
    metric = Auroc()
    metric.update(({"logits": logits}, {"risk": risk, "risk_known": known, "patient_id": ids}))
    used = known[:, 2] == 1
    values = metric.compute()
    assert values["auroc"] == pytest.approx(roc_auc_score(risk[used, 2], logits[used, 2]))
    assert values["auroc"] != pytest.approx(roc_auc_score(risk[:, 2], logits[:, 2]))
    assert values["auroc_low"] < values["auroc"] < values["auroc_high"]


def test_nothing_known_is_one_class(caplog: pytest.LogCaptureFixture) -> None:
    metric = Auroc()
    targets = {"risk": torch.ones(4, 2), "risk_known": torch.zeros(4, 2), "patient_id": "abcd"}
    metric.update(({"logits": torch.zeros(4, 2)}, targets))
    assert metric.compute() == {"auroc": -1.0}
    assert "got 0 positives in 0 scans" in caplog.text


def test_logits_of_another_shape_are_refused() -> None:
    targets = {"risk": torch.zeros(4, 1), "risk_known": torch.ones(4, 1), "patient_id": "abcd"}
    with pytest.raises(ValueError, match=r"\(B, years\), got \(4, 6\), \(4, 1\) and \(4, 1\)"):
        Auroc().update(({"logits": torch.zeros(4, 6)}, targets))
