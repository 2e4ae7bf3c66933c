"""A picture of each of the first few scans of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import Evaluator

from cohorts.replaced_file import replaced_file
from handlers.writable_folder import writable_folder

EXAMPLES = 3


class FirstExamples:
    """Draws the first few validation scans that have something to show, anew in every epoch.

    Args:
        run_dir: folder of the training run, made if needed; pictures go to
            ``pictures/<patient_id>.png`` in it.
        evaluator: the validation engine, with batches of one and ``decollate: false``.
        shows: whether a scan is to be drawn, given the engine's output.
        draw: writes a picture, given the engine's output, the epoch and the PNG's path.
    """

    def __init__(
        self,
        run_dir: str | Path,
        evaluator: Evaluator,
        *,
        shows: Callable[[Mapping[str, Any]], bool],
        draw: Callable[[Mapping[str, Any], int, Path], None],
    ) -> None:
        self.folder = Path(run_dir) / "pictures"
        self.evaluator = evaluator
        self.shows = shows
        self.draw = draw
        self._drawn = 0

    def attach(self, _engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, self._begin)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._draw_next)

    def _begin(self) -> None:
        writable_folder(self.folder)
        self._drawn = 0

    def _draw_next(self, engine: Evaluator) -> None:
        output: Any = engine.state.output
        if self._drawn == EXAMPLES or not self.shows(output):
            return
        self._drawn += 1
        name = str(output["label"]["patient_id"][0])
        with replaced_file(self.folder / f"{name}.png") as partial:
            self.draw(output, engine.state.epoch, partial)
