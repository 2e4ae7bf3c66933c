from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler, from_engine
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from handlers import PrepareTargets, TrainingCheckpoints
from metrics import MeanLossTerms


class _Loss(nn.Module):
    def terms(
        self, outputs: dict[str, torch.Tensor], targets: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        return {"loss": (outputs["logits"] - targets["total"]).square().mean()}

    def forward(self, outputs: dict[str, torch.Tensor], targets: dict[str, Any]) -> torch.Tensor:
        return self.terms(outputs, targets)["loss"]


class _Network(nn.Module):
    def __init__(self, features: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


def _trainer(
    run_dir: Path,
    max_epochs: int,
    resume: str | None = None,
    *,
    one_cycle: bool = False,
    batch_size: int = 4,
) -> SupervisedTrainer:
    torch.manual_seed(0)
    network, loss = _Network(), _Loss()
    x = torch.randn(8, 3)
    data: Any = [
        {"image": image, "total": image.sum(dim=0, keepdim=True), "patient_id": f"p{index}"}
        for index, image in enumerate(x)
    ]
    prepare = PrepareTargets(["total", "patient_id"], with_attention=False)
    metric = MeanLossTerms(loss, output_transform=from_engine(["pred", "label"]))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=4),
        network=network,
        prepare_batch=prepare,
        key_val_metric={"loss": metric},
        metric_cmp_fn=lambda current, best: current < best,
        decollate=False,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    steps = 2 * max_epochs
    schedule: Any = (
        OneCycleLR(optimizer, max_lr=0.05, total_steps=steps, cycle_momentum=False)
        if one_cycle
        else WarmupCosineSchedule(optimizer, warmup_steps=1, t_total=steps)
    )
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=DataLoader(data, batch_size=batch_size),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=prepare,
        decollate=False,
        train_handlers=[
            TrainingCheckpoints(
                run_dir=str(run_dir),
                network=network,
                optimizer=optimizer,
                lr_scheduler=schedule,
                evaluator=evaluator,
                resume=resume,
            ),
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False),
            ValidationHandler(interval=1, validator=evaluator),
        ],
    )


def _weights(trainer: SupervisedTrainer) -> torch.Tensor:
    return trainer.network.state_dict()["layer.weight"].clone()


@pytest.mark.parametrize("one_cycle", [False, True])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, one_cycle: bool) -> None:
    whole = _trainer(tmp_path / "whole", max_epochs=4, one_cycle=one_cycle)
    whole.run()
    broken = _trainer(tmp_path / "parts", max_epochs=4, one_cycle=one_cycle)

    @broken.on(Events.EPOCH_STARTED(once=3))
    def interrupt(engine: SupervisedTrainer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.run()
    last = str(tmp_path / "parts/last.pt")
    rest = _trainer(tmp_path / "parts", max_epochs=4, resume=last, one_cycle=one_cycle)
    rest.run()
    torch.testing.assert_close(_weights(rest), _weights(whole), rtol=0, atol=0)
    assert rest.state.epoch == 4


def test_more_epochs_stretch_the_schedule(tmp_path: Path) -> None:
    _trainer(tmp_path, max_epochs=2).run()
    rest = _trainer(tmp_path, max_epochs=4, resume=str(tmp_path / "last.pt"))
    rates: list[float] = []

    @rest.on(Events.ITERATION_COMPLETED)
    def note(engine: SupervisedTrainer) -> None:
        rates.append(engine.optimizer.param_groups[0]["lr"])

    rest.run()
    schedule = [0.5 * (1 + math.cos(math.pi * (step - 1) / 7)) for step in range(5, 9)]
    # The last step of the old schedule had come to zero; the longer one is met on its way down.
    assert rates == pytest.approx([0.05 * factor for factor in schedule])


def test_the_last_checkpoint_knows_the_best_epoch(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_epochs=3)
    trainer.run()
    checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
    assert checkpoint["best_metric_epoch"] == 3
    rest = _trainer(tmp_path, max_epochs=4, resume=str(tmp_path / "last.pt"))
    before = (tmp_path / "model.pt").read_bytes()

    @rest.on(Events.EPOCH_STARTED)
    def spoil(engine: SupervisedTrainer) -> None:
        engine.network.load_state_dict({"layer.weight": torch.full((1, 3), 9.0)}, strict=False)

    rest.run()
    assert (tmp_path / "model.pt").read_bytes() == before


def test_the_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_epochs=3)
    seen = {}

    @trainer.on(Events.EPOCH_COMPLETED)
    def spoil(engine: SupervisedTrainer) -> None:
        seen[engine.state.epoch] = _weights(engine)
        if engine.state.epoch == 2:
            engine.network.load_state_dict(
                {"layer.weight": torch.full((1, 3), 100.0)}, strict=False
            )

    trainer.run()
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.testing.assert_close(best["layer.weight"], seen[2], rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "model.pt"]


def test_ctrl_c_leaves_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_epochs=3)

    @trainer.on(Events.ITERATION_COMPLETED(once=3))
    def interrupt(engine: SupervisedTrainer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    rest = _trainer(tmp_path, max_epochs=3, resume=str(tmp_path / "last.pt"))
    rest.run()
    assert rest.state.epoch == 3


def test_a_disk_that_fills_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trainer(tmp_path, max_epochs=1).run()
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(torch, "save", _full_disk)
    sentence = r"model\.pt must be writable, got No space left on device; a checkpoint .* is kept"
    with pytest.raises(OSError, match=sentence):
        _trainer(tmp_path, max_epochs=2, resume=str(tmp_path / "last.pt")).run()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == good
    monkeypatch.undo()
    _trainer(tmp_path, max_epochs=2, resume=str(tmp_path / "last.pt")).run()


def test_a_disk_that_fills_after_the_best_weights_leaves_both_files_loadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trainer(tmp_path, max_epochs=1).run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def full_for_last(content: dict[str, Any], stream: BinaryIO) -> None:
        (_full_disk if "optimizer" in content else save)(content, stream)

    monkeypatch.setattr(torch, "save", full_for_last)
    with pytest.raises(OSError, match=r"last\.pt must be writable, got No space left"):
        _trainer(tmp_path, max_epochs=2, resume=str(tmp_path / "last.pt")).run()
    monkeypatch.undo()
    assert (tmp_path / "last.pt").read_bytes() == before["last.pt"]
    assert (tmp_path / "model.pt").read_bytes() != before["model.pt"]
    _trainer(tmp_path, max_epochs=3, resume=str(tmp_path / "last.pt")).run()


def test_a_disk_full_at_ctrl_c_does_not_hide_it_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(tmp_path, max_epochs=2)
    heard: list[BaseException] = []

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def interrupt(engine: SupervisedTrainer) -> None:
        monkeypatch.setattr(torch, "save", _full_disk)
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: heard.append(error))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert [type(error) for error in heard[:1]] == [KeyboardInterrupt]


def _full_disk(content: object, stream: BinaryIO) -> None:
    """As torch.save fails: behind an error of its own."""
    stream.write(b"half")
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    _trainer(tmp_path, max_epochs=1).run()
    other = _trainer(tmp_path, max_epochs=2, resume=str(tmp_path / "last.pt"), batch_size=2)
    with pytest.raises(ValueError, match=r"as many steps in an epoch as before.* got 4 after 2"):
        other.run()
    with pytest.raises(ValueError, match="max_epochs must be above the 1 epochs"):
        _trainer(tmp_path, max_epochs=1, resume=str(tmp_path / "last.pt")).run()
    with pytest.raises(ValueError, match=r"resume must be a last\.pt"):
        _trainer(tmp_path, max_epochs=2, resume=str(tmp_path / "model.pt")).run()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a writable folder"):
        _trainer(tmp_path / "file", max_epochs=1).run()
