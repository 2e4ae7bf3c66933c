from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from mlflow import MlflowClient
from mlflow.entities import Run
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointSaver, StatsHandler, ValidationHandler, from_engine
from torch.utils.data import DataLoader

from handlers.mlflow_store import local_store_uri
from handlers.mlflow_tracking import MlflowTracking

EPOCHS, BATCHES = 2, 3
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{database}")
    return database


@pytest.fixture
def store(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with the schema, the slow part, and no experiment."""
    (tmp_path / "store").mkdir()
    shutil.copy(empty_database, tmp_path / "store")
    return name_store(tmp_path, monkeypatch)


def name_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def make_trainer(
    tmp_path: Path,
    *,
    loss: Loss = torch.nn.functional.mse_loss,
    order: Sequence[str] = ("tracking", "saver", "stats"),
    **tracking: Any,
) -> SupervisedTrainer:
    """Two epochs of three batches of one linear layer, validated after each epoch."""
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.25)
    samples: Any = [{"image": torch.ones(2) * i, "label": torch.ones(1)} for i in range(BATCHES)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(samples, batch_size=1),
        network=network,
        key_val_metric={"val_output": Average(output_transform=mean_output)},
    )
    handlers = {
        "tracking": MlflowTracking("tiny", evaluator=evaluator, **tracking),
        "saver": CheckpointSaver(
            str(tmp_path / "models"),
            {"network": network},
            save_final=True,
            final_filename="last.pt",
        ),
        "stats": StatsHandler(output_transform=from_engine("loss", first=True)),
    }
    validate = ValidationHandler(interval=1, validator=evaluator)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=EPOCHS,
        train_data_loader=DataLoader(samples, batch_size=1),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        key_train_metric={"train_loss": Average(output_transform=from_engine("loss", first=True))},
        train_handlers=[validate, *(handlers[name] for name in order)],
    )


def mean_output(output: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([each["pred"].mean() for each in output]).mean()


def breaking(error: BaseException) -> Loss:
    """A loss that raises in the second epoch."""
    calls = 0

    def loss(pred: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == BATCHES + 2:
            raise error
        return torch.nn.functional.mse_loss(pred, label)

    return loss


def only_run(store: str) -> Run:
    (run,) = all_runs(store)
    return run


def all_runs(store: str) -> list[Run]:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def test_both_engines_write_to_one_finished_run(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.mlflow_tracking.ITERATION_PAUSE_S", 0.0)
    page = tmp_path / "curves.txt"
    models = tmp_path / "models"
    trainer = make_trainer(
        tmp_path, params={"layers": 1}, artifacts=[page, models, tmp_path / "none"]
    )
    seen: dict[str, list[float]] = {"train": [], "val": []}

    def remember(engine: Engine) -> None:
        seen["train"].append(engine.state.metrics["train_loss"])
        page.write_text("curves")

    trainer.add_event_handler(Events.EPOCH_COMPLETED, remember)
    trainer.run()

    run = only_run(store)
    client = MlflowClient(tracking_uri=store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name is not None and run.info.run_name.startswith("tiny-20")
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(each.step, each.value) for each in history] == list(enumerate(seen["train"], start=1))
    val = client.get_metric_history(run.info.run_id, "val_output")
    assert [each.step for each in val] == [1, 2]
    assert run.data.metrics["best_metric"] == max(each.value for each in val)
    iterations = client.get_metric_history(run.info.run_id, "iteration_loss")
    assert [each.step for each in iterations] == list(range(1, EPOCHS * BATCHES + 1))
    assert run.data.metrics["lr_group_0"] == 0.25
    assert run.data.params == {"layers": "1", "max_epochs": "2", "epoch_length": "3"}
    assert run.data.tags["version.torch"] == torch.__version__
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {
        "curves.txt",
        "models",
    }
    # The last checkpoint is written when training ends, and is in the run all the same.
    (saved,) = client.list_artifacts(run.info.run_id, "models")
    assert saved.path == "models/last.pt"


def test_named_loss_terms_are_tracked(tmp_path: Path, store: str) -> None:
    trainer = make_trainer(
        tmp_path,
        output_transform=lambda output: {"risk": output[0]["loss"], "box": torch.tensor(2)},
    )
    trainer.run()
    assert only_run(store).data.metrics["box"] == 2.0
    assert only_run(store).data.metrics["risk"] > 0


@pytest.mark.parametrize(
    "order", [("tracking", "saver", "stats"), ("saver", "stats", "tracking"), ("tracking",)]
)
@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("loss went away"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_an_exception_is_recorded_and_goes_on(
    tmp_path: Path, store: str, order: tuple[str, ...], error: BaseException, status: str
) -> None:
    trainer = make_trainer(tmp_path, loss=breaking(error), order=order)
    with pytest.raises(type(error)):
        trainer.run()
    run = only_run(store)
    assert run.info.status == status
    assert run.data.tags["error"] == f"{type(error).__name__}: {error}"
    assert "val_output" in run.data.metrics
    if "saver" in order:
        saved = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
        network = trainer.network
        assert isinstance(network, torch.nn.Linear)
        assert torch.equal(saved["weight"], network.weight)


def test_a_failed_run_is_not_taken_up_by_the_next(tmp_path: Path, store: str) -> None:
    with pytest.raises(RuntimeError):
        make_trainer(tmp_path, loss=breaking(RuntimeError("stop")), run_name="same").run()
    make_trainer(tmp_path, run_name="same").run()
    assert sorted(run.info.status for run in all_runs(store)) == ["FAILED", "FINISHED"]


def test_fast_iterations_are_not_each_written(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.mlflow_tracking.ITERATION_PAUSE_S", 3600.0)
    make_trainer(tmp_path).run()
    client = MlflowClient(tracking_uri=store)
    losses = client.get_metric_history(only_run(store).info.run_id, "iteration_loss")
    assert [each.step for each in losses] == [1]


def test_a_training_that_goes_on_goes_on_in_its_run(tmp_path: Path, store: str) -> None:
    trainer = make_trainer(tmp_path, params={"layers": 1})
    trainer.run()
    trainer.state.max_epochs = 2 * EPOCHS
    trainer.run()
    run = only_run(store)
    assert run.info.status == "FINISHED"
    losses = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, "train_loss")
    assert [each.step for each in losses] == [1, 2, 3, 4]
    assert run.data.params["max_epochs"] == str(EPOCHS)


def test_a_training_begun_anew_gets_a_new_run(tmp_path: Path, store: str) -> None:
    trainer = make_trainer(tmp_path)
    trainer.run()
    trainer.run()
    runs = all_runs(store)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert [run.data.metrics["lr_group_0"] for run in runs] == [0.25, 0.25]


def test_an_evaluation_alone_is_a_run(tmp_path: Path, store: str) -> None:
    trainer = make_trainer(tmp_path, order=())
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=trainer.data_loader,
        network=trainer.network,
        key_val_metric={"test_output": Average(output_transform=mean_output)},
        val_handlers=[MlflowTracking("tiny")],
    )
    evaluator.run()
    run = only_run(store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_output"] == pytest.approx(evaluator.state.metrics["test_output"])


def test_a_server_that_is_away_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    local = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setattr("handlers.mlflow_run.local_store_uri", lambda: local)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="handlers"):
        make_trainer(tmp_path).run()
    assert time.monotonic() - start < 20
    assert only_run(local).info.status == "FINISHED"
    (line,) = [record.getMessage() for record in caplog.records if record.name[:8] == "handlers"]
    assert line.startswith("http://127.0.0.1:9 fails (")
    assert line.endswith(f"), tracking in {local}")


def test_a_store_that_breaks_later_does_not_stop_training(
    tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path)
    database = tmp_path / "store" / "mlflow.db"
    epochs = 0

    @trainer.on(Events.EPOCH_STARTED)
    def lose_the_store() -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 2:
            database.write_bytes(b"not a database")

    with caplog.at_level(logging.WARNING, logger="handlers"):
        trainer.run()
    assert trainer.state.epoch == EPOCHS
    lines = [record.getMessage() for record in caplog.records if record.name[:8] == "handlers"]
    assert len(lines) == 1 and lines[0].startswith("MLflow takes no values now")


def test_two_trainings_started_at_once_keep_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = name_store(tmp_path, monkeypatch)
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from test_mlflow_tracking import make_trainer;"
        "make_trainer(Path(sys.argv[2]), params={'who': sys.argv[3]}).run()"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / who), who],
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in ("first", "second")
    ]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    runs = all_runs(store)
    assert {run.data.params["who"] for run in runs} == {"first", "second"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.info.run_name for run in runs}) == 2
    client = MlflowClient(tracking_uri=store)
    for run in runs:
        losses = client.get_metric_history(run.info.run_id, "train_loss")
        assert [each.step for each in losses] == list(range(1, EPOCHS + 1))


def test_the_local_store_is_the_default() -> None:
    assert MlflowTracking("tiny", tracking_uri=local_store_uri()).tracking_uri == local_store_uri()
