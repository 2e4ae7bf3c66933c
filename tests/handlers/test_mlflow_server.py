"""A training whose MLflow server dies on the way."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.engines import SupervisedTrainer
from monai.handlers import from_engine
from torch.utils.data import DataLoader

from handlers.mlflow_tracking import MlflowTracking

EPOCHS, KILLED_IN = 4, 2


def test_a_server_that_dies_does_not_end_the_training(
    tmp_path: Path, mlflow_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    network = torch.nn.Linear(2, 1)
    samples: Any = [{"image": torch.ones(2), "label": torch.ones(1)}] * 3
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        train_data_loader=DataLoader(samples, batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.functional.mse_loss,
        key_train_metric={"train_loss": Average(output_transform=from_engine("loss", first=True))},
        train_handlers=[
            MlflowTracking("tiny", tracking_uri=mlflow_server.uri, params={"layers": 1})
        ],
    )
    killed = 0.0

    @trainer.on(Events.EPOCH_STARTED(once=KILLED_IN))
    def kill() -> None:
        nonlocal killed
        mlflow_server.kill()
        killed = time.monotonic()

    with caplog.at_level(logging.WARNING, logger="handlers"):
        trainer.run()
    assert trainer.state.epoch == EPOCHS
    assert time.monotonic() - killed < 60
    (line,) = [record.getMessage() for record in caplog.records if record.name[:8] == "handlers"]
    assert line.startswith("MLflow takes no values now, the run goes on: ")
    with sqlite3.connect(tmp_path / "server.db") as store:
        assert store.execute("select key, value from params where key = 'layers'").fetchall()
        steps = store.execute("select step from metrics where key = 'train_loss'").fetchall()
    assert steps == [(1,)]
