from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from handlers import EpochReport
from handlers.epoch_report import metrics_line


def test_one_line_for_each_epoch(caplog: pytest.LogCaptureFixture) -> None:
    none: Any = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=none, network=torch.nn.Identity()
    )
    evaluator.state.metrics = {"loss": 0.25}
    trainer = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def measure(engine: Engine) -> None:
        engine.state.metrics["loss"] = 1 / engine.state.epoch

    EpochReport(evaluator).attach(trainer)
    with caplog.at_level(logging.INFO, logger="handlers.epoch_report"):
        trainer.run([0], max_epochs=2)
    assert caplog.messages == [
        "epoch 1 of 2: training loss 1; validation loss 0.25",
        "epoch 2 of 2: training loss 0.5; validation loss 0.25",
    ]


def test_intervals_stand_with_their_metric_and_what_has_no_value_is_said() -> None:
    metrics = {"auroc": 0.75, "auroc_low": 0.5, "auroc_high": 0.9, "mass": float("nan"), "n": 3}
    assert metrics_line(metrics) == "auroc 0.75 [0.500, 0.900], mass none, n 3"
    assert metrics_line({}) == "none"
