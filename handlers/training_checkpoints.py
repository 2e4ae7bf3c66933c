"""The checkpoints of a training run: the best weights, and all it takes to go on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cohorts.replaced_file import replaced_file
from handlers.hear_exception import hear_exception
from handlers.trained_weights import load_trained_weights
from handlers.writable_folder import writable_folder

SCHEDULE_PROGRESS = ("last_epoch", "_step_count", "_last_lr")

logger = logging.getLogger(__name__)


class TrainingCheckpoints:
    """Writes ``model.pt`` (best weights) and ``last.pt`` (everything), and resumes from the latter.

    ``last.pt`` is written after every epoch and when training ends early, by an error or by
    Ctrl-C. A file is replaced only once its successor is complete, so a full disk or a killed
    process leaves the one before. The best epoch is the one MONAI's evaluator names best.
    Of several ranks the first writes, and all resume.

    MONAI's ``CheckpointSaver`` cannot stand in a config for this: saving the trainer's own state
    would make the trainer refer to itself, and it writes its files in place.

    Args:
        run_dir: folder of the two files, made if needed.
        network: the network being trained.
        optimizer: its optimizer.
        lr_scheduler: its schedule.
        evaluator: the validation engine, whose key metric names the best epoch.
        resume: a ``last.pt`` to go on from, or None to begin anew.

    Raises:
        ValueError: when training starts, if ``run_dir`` cannot be written, if ``resume`` is no
            such checkpoint, of another network or of epochs of another length, or if it has had
            all the epochs.
        OSError: a file cannot be written; the one before is kept.
    """

    def __init__(
        self,
        *,
        run_dir: str,
        network: Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler,
        evaluator: Evaluator,
        resume: str | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine`` and the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best)

    def _start(self, engine: Engine) -> None:
        hear_exception(engine, self._save_interrupted)
        # Registered only now, and so behind the validation, whose best value belongs to it.
        if not engine.has_event_handler(self._save_last, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)
        writable_folder(self.run_dir)
        if self.resume is not None:
            self._load(engine, self.resume)

    def _load(self, engine: Engine, path: str) -> None:
        checkpoint = load_trained_weights(path, self.network)
        if "trainer" not in checkpoint:
            raise ValueError(f"resume must be a last.pt with the trainer's state, got {path}")
        steps, steps_before = engine.state.epoch_length, checkpoint["trainer"]["epoch_length"]
        if steps != steps_before:
            raise ValueError(
                "a resumed training must have as many steps in an epoch as before, and so the "
                f"scans, batch_size and ranks, got {steps} after {steps_before} in {path}"
            )
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        # Only how far it had come: the length of the schedule is the new training's.
        state, saved = self.lr_scheduler.state_dict(), checkpoint["lr_scheduler"]
        self.lr_scheduler.load_state_dict(
            {**state, **{name: saved[name] for name in SCHEDULE_PROGRESS}}
        )
        max_epochs = engine.state.max_epochs
        trained = checkpoint["trainer"]["iteration"] // checkpoint["trainer"]["epoch_length"]
        if max_epochs is not None and trained >= max_epochs:
            raise ValueError(f"max_epochs must be above the {trained} epochs that {path} has had")
        engine.load_state_dict(checkpoint["trainer"])
        engine.state.max_epochs = max_epochs
        self.evaluator.state.best_metric = checkpoint["best_metric"]
        self.evaluator.state.best_metric_epoch = checkpoint["best_metric_epoch"]

    def _save_last(self, engine: Engine) -> None:
        self._save(
            "last.pt",
            {
                "network": self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "lr_scheduler": self.lr_scheduler.state_dict(),
                "trainer": dict(engine.state_dict()),
                "best_metric": self.evaluator.state.best_metric,
                "best_metric_epoch": self.evaluator.state.best_metric_epoch,
            },
        )

    def _save_best(self, evaluator: Evaluator) -> None:
        if evaluator.state.best_metric_epoch == evaluator.state.epoch:
            self._save("model.pt", self._weights())

    def _save_interrupted(self, engine: Engine, _error: BaseException) -> None:
        if engine.state.iteration == 0:
            return
        try:
            self._save_last(engine)
        except OSError as failure:
            # What ended the training is what counts, and others have yet to hear of it.
            logger.error("%s", failure)

    def _weights(self) -> dict[str, Any]:
        """The weights on the CPU and without a wrapper's prefix, so that any machine loads them."""
        network = getattr(self.network, "module", self.network)
        return {name: value.cpu() for name, value in network.state_dict().items()}

    @idist.one_rank_only()
    def _save(self, name: str, content: dict[str, Any]) -> None:
        path = self.run_dir / name
        try:
            with replaced_file(path) as partial, partial.open("wb") as stream:
                torch.save(content, stream)
        except (OSError, RuntimeError) as error:
            # Torch's writer hides what the disk said behind a RuntimeError of its own.
            refusal = error if isinstance(error, OSError) else error.__context__
            reason = refusal.strerror if isinstance(refusal, OSError) else error
            raise OSError(
                f"{path} must be writable, got {reason}; a checkpoint that was there before is kept"
            ) from error
