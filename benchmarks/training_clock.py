"""How long a training took."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import NamedTuple

from ignite.engine import Engine, Events

from handlers.write_json import write_json


class TrainingTime(NamedTuple):
    """From the fetching of the first batch to the end of the last step, by the wall clock."""

    steps: int
    seconds: float
    median_step_s: float


class StepTimer:
    """Times of a training's steps, each with the fetching of its batch.

    Attributes:
        elapsed_s: from the start to the last step's end.
    """

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._steps_s: list[float] = []

    @property
    def elapsed_s(self) -> float:
        return self._last - self._start

    def step(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        self._steps_s.append(now - self._last)
        self._last = now

    def total(self) -> TrainingTime:
        """All so far; there must be a step."""
        return TrainingTime(len(self._steps_s), self.elapsed_s, statistics.median(self._steps_s))


class TrainingClock:
    """Handler that writes a trainer's :class:`TrainingTime` as JSON whenever an epoch ends.

    Of several epochs it tells of the last. To be listed before the handlers whose work is not to
    count, such as the validation.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self) -> None:
        self._timer = StepTimer()

    def _step(self) -> None:
        self._timer.step()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._timer.total()._asdict())
