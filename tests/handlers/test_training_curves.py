from __future__ import annotations

import json
from pathlib import Path

import pytest
from ignite.engine import Engine, Events
from matplotlib.image import imread

from handlers import TrainingCurves, draw_curves


def _train(run_dir: Path, *, first: int = 1, last: int, validate_each: int = 1) -> None:
    trainer = Engine(lambda _engine, _batch: None)
    evaluator = Engine(lambda _engine, _batch: None)

    @trainer.on(Events.EPOCH_COMPLETED)
    def losses(engine):
        engine.state.metrics.update(loss=1 / engine.state.epoch, risk_loss=0.5)

    @evaluator.on(Events.EPOCH_COMPLETED)
    def quality(engine):
        auroc = 1 - 0.5 / trainer.state.epoch
        engine.state.metrics.update(auroc=auroc, auroc_low=auroc - 0.1, auroc_high=auroc + 0.1)
        engine.state.metrics.update(loss=2 / trainer.state.epoch, lesion_scans=3)

    TrainingCurves(run_dir, evaluator).attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED(every=validate_each))
    def validate(_engine):
        evaluator.run([0], max_epochs=1)

    # Stands behind the handler, as a checkpoint's loader may.
    @trainer.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch = first - 1
        engine.state.iteration = first - 1

    trainer.run([0], max_epochs=last)


def _history(run_dir: Path) -> list[dict]:
    return json.loads((run_dir / "history.json").read_text())


def test_each_epoch_has_the_metrics_of_training_and_validation(tmp_path):
    _train(tmp_path / "run", last=2)
    rows = _history(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["training"] for row in rows] == [
        {"loss": 1.0, "risk_loss": 0.5},
        {"loss": 0.5, "risk_loss": 0.5},
    ]
    assert [row["validation"]["auroc"] for row in rows] == [0.5, 0.75]
    assert [row["validation"]["loss"] for row in rows] == [2.0, 1.0]
    assert [row["validation"]["lesion_scans"] for row in rows] == [3, 3]
    assert imread(tmp_path / "run" / "curves.png").ndim == 3


def test_epochs_without_validation_have_none(tmp_path):
    _train(tmp_path, last=3, validate_each=2)
    assert ["validation" in row for row in _history(tmp_path)] == [False, True, False]


def test_a_resumed_training_goes_on_with_its_history(tmp_path):
    _train(tmp_path, last=3)
    _train(tmp_path, first=3, last=4)  # epoch 3 was not yet in the checkpoint
    assert [row["epoch"] for row in _history(tmp_path)] == [1, 2, 3, 4]


def test_a_new_training_in_the_same_folder_begins_anew(tmp_path):
    _train(tmp_path, last=3)
    _train(tmp_path, last=1)
    assert [row["epoch"] for row in _history(tmp_path)] == [1]


def test_an_unusable_folder_is_refused_when_training_starts(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ValueError, match="must be a writable folder"):
        _train(tmp_path / "run", last=1)


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{"epoch": 1, "training": {"loss": None}}],
        [{"epoch": 1, "validation": {"auroc": None}}, {"epoch": 2, "validation": {"auroc": 0.5}}],
    ],
)
def test_missing_values_are_drawn_as_gaps(history, tmp_path):
    draw_curves(history, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").size
