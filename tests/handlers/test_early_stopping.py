from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from torch import nn
from torch.utils.data import DataLoader

from handlers import EarlyStopping, MlflowTracking, PrepareTargets, TrainingCheckpoints
from metrics import MeanLossTerms


class _Worth(nn.Module):
    """A loss whose value in the validation of each epoch is given."""

    def __init__(self, worth: Sequence[float]) -> None:
        super().__init__()
        self.worth = worth
        self.evaluator: SupervisedEvaluator | None = None

    def terms(self, outputs: torch.Tensor, targets: Any) -> dict[str, torch.Tensor]:
        assert self.evaluator is not None
        return {"loss": torch.tensor(self.worth[self.evaluator.state.epoch - 1])}

    def forward(self, outputs: torch.Tensor, targets: Any) -> torch.Tensor:
        return outputs.mean()


def _trainer(
    folder: Path,
    worth: Sequence[float],
    *,
    patience: int,
    resume: str | None = None,
    interval: int = 1,
    further: Sequence[Any] = (),
) -> SupervisedTrainer:
    network, loss = nn.Linear(2, 1), _Worth(worth)
    items: Any = [{"image": torch.ones(2), "patient_id": f"p{index}"} for index in range(4)]
    loader: Any = DataLoader(items, batch_size=2)
    prepare = PrepareTargets(["patient_id"], with_attention=False)
    evaluator = loss.evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=network,
        prepare_batch=prepare,
        key_val_metric={"loss": MeanLossTerms(loss, from_engine(["pred", "label"]))},
        metric_cmp_fn=lambda current, best: current < best,
        decollate=False,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    checkpoints = TrainingCheckpoints(
        run_dir=str(folder),
        network=network,
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer),
        evaluator=evaluator,
        resume=resume,
    )
    # Before the validation: the order in the list does not matter.
    stop = EarlyStopping(evaluator, patience)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=len(worth),
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=prepare,
        decollate=False,
        train_handlers=[
            *further,
            stop,
            checkpoints,
            ValidationHandler(interval=interval, validator=evaluator),
        ],
    )


def _last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pt", weights_only=True)


WORTH = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0, 1.5, 1.5]


def _first_stale(worth: Sequence[float], patience: int) -> int:
    """The epoch after which to stop, naively."""
    for epoch in range(1, len(worth) + 1):
        best = min(range(epoch), key=lambda earlier: (worth[earlier], earlier)) + 1
        if epoch - best >= patience:
            return epoch
    return len(worth)


@pytest.mark.parametrize("patience", [1, 2, 3, 4, 9])
def test_it_ends_when_as_many_epochs_have_passed_since_the_best(
    tmp_path: Path, patience: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="handlers")
    trainer = _trainer(tmp_path, WORTH, patience=patience)
    trainer.run()
    assert trainer.state.epoch == _first_stale(WORTH, patience)
    lines = [text for text in caplog.messages if text.startswith("early stop")]
    expected = (
        f"early stop after epoch {2 + patience}: loss was best in epoch 2 (2), "
        f"patience is {patience} epochs"
    )
    assert lines == ([expected] if patience < 4 else [])


def test_a_resumed_training_counts_on_and_more_patience_lets_it_go_on(tmp_path: Path) -> None:
    _trainer(tmp_path, WORTH, patience=2).run()
    assert _last(tmp_path)["trainer"]["iteration"] == 2 * 4  # the epoch was finished
    last = str(tmp_path / "last.pt")
    _trainer(tmp_path, WORTH, patience=2, resume=last).run()
    assert _last(tmp_path)["trainer"]["iteration"] == 2 * 5
    more = _trainer(tmp_path, WORTH, patience=4, resume=last)
    more.run()
    assert more.state.epoch == len(WORTH)
    assert _last(tmp_path)["best_metric_epoch"] == 6


def test_epochs_without_a_validation_do_not_end_it(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, WORTH, patience=1, interval=3)
    trainer.run()
    # None before the third; then the fourth is one epoch after the best so far.
    assert trainer.state.epoch == 4


def test_a_tracked_run_ends_finished(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking = MlflowTracking(
        "early", tracking_uri=uri, run_name="run", artifacts=[tmp_path / "last.pt"]
    )
    _trainer(tmp_path, WORTH, patience=1, further=[tracking]).run()
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("early")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["last.pt"]


def test_no_patience_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="patience must be 1 epoch or more, got 0"):
        _trainer(tmp_path, WORTH, patience=0)
