"""Ctrl-C between two batches."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from handlers.hear_exception import hear_exception

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnInterrupt:
    """End a training between two batches at the first Ctrl-C, or at a scheduler's SIGTERM.

    The running iteration, or the checkpoint that is being written, is finished first; then
    `KeyboardInterrupt` leaves the engine, where `CheckpointSaver(save_final=True)` saves the state
    and `MlflowTracking` marks the run killed. A second Ctrl-C ends at once. While the engine waits
    for a batch the first one already does: nothing is half-written then, and the data loader's
    processes got the same Ctrl-C.

    The ranks of one training stop before the same iteration, whichever of them was told. They wait
    for their batches first and take no second Ctrl-C, since torchrun passes on the one that they
    got themselves; it ends whatever is left of them after 30 s.

    Outside the main thread, where Python allows no signal handlers, it does nothing.

    Args:
        evaluator: the engine that validates during the training, which is stopped alike.
    """

    def __init__(self, evaluator: Evaluator | None = None) -> None:
        self.evaluator = evaluator
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        self._stop = False
        self._waiting = False
        self._pid = os.getpid()
        self._ranks: Any = None

    def attach(self, engine: Engine) -> None:
        """Register with the training engine."""
        engine.add_event_handler(Events.STARTED, self._watch)
        engine.add_event_handler(Events.COMPLETED, self._unwatch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask_ranks)
        for each in filter(None, (engine, self.evaluator)):
            each.add_event_handler(Events.GET_BATCH_STARTED, self._before_batch)
            each.add_event_handler(Events.GET_BATCH_COMPLETED, self._after_batch)

    def _watch(self, engine: Engine) -> None:
        self._stop = self._waiting = False
        hear_exception(engine, self._unwatch_failed)
        if idist.get_world_size() > 1 and self._ranks is None:
            # Of CPUs: to ask over NCCL would wait for the GPU in every iteration.
            self._ranks = dist.new_group(backend="gloo")
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            self._previous[number] = signal.getsignal(number)
            signal.signal(number, self._on_signal)

    def _unwatch(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous = {}

    def _unwatch_failed(self, _engine: Engine, _error: BaseException) -> None:
        if (
            self._ranks is None
        ):  # else torchrun's signal may yet come, while a checkpoint is written
            self._unwatch()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            _act_as_worker(number)
            return
        name = signal.Signals(number).name
        if self._ranks is not None:
            if not self._stop:
                logger.warning("%s: stopping after this iteration, on all ranks", name)
            self._stop = True
            return
        self._unwatch()
        if self._waiting:
            raise KeyboardInterrupt
        self._stop = True
        logger.warning("%s: stopping after this iteration; Ctrl-C again stops at once", name)

    def _ask_ranks(self) -> None:
        """Whether any rank is to stop; not asked in validation, where ranks differ in batches."""
        if self._ranks is not None:
            told = torch.tensor(int(self._stop))
            dist.all_reduce(told, dist.ReduceOp.MAX, group=self._ranks)
            self._stop = bool(told)

    def _before_batch(self) -> None:
        self._waiting = True
        if self._stop:
            self._stop = False
            raise KeyboardInterrupt

    def _after_batch(self) -> None:
        self._waiting = False


def _act_as_worker(number: int) -> None:
    """In a data loader's process, forked with this handler: leave Ctrl-C to the trainer."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
