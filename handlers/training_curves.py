"""The curves of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cohorts.replaced_file import replaced_file
from handlers.finite_scalars import finite_scalars
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json

COLUMNS = 3
LINES = {"training": "-", "validation": "--"}


def draw_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws a training's history as PNG: all loss terms in one panel, each other metric in its own.

    Args:
        history: ``{"epoch": 1, "training": {name: value}, "validation": {name: value}}`` of each
            epoch; a value may be None. ``<name>_low`` and ``<name>_high`` become a band.
        path: the PNG.
    """
    names = list(
        dict.fromkeys(name for row in history for phase in LINES for name in row.get(phase, {}))
    )
    ends = {f"{name}_{end}" for name in names for end in ("low", "high")}
    drawn = [name for name in names if name not in ends and not name.endswith("_scans")]
    losses = [name for name in drawn if name.endswith("loss")]
    panels = [losses] * bool(losses) + [[name] for name in drawn if name not in losses]
    rows = max(1, -(-len(panels) // COLUMNS))
    figure = Figure(figsize=(5 * COLUMNS, 3.6 * rows))
    # Margins by hand: matplotlib's layout engine would take most of the time.
    edge = 1 / rows
    figure.subplots_adjust(0.04, 0.15 * edge, 0.99, 1 - 0.1 * edge, wspace=0.15, hspace=0.38)
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        axes.set_title("loss" if panel is losses else panel[0].replace("_", " "))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        for colour, name in enumerate(panel):
            for phase in LINES:
                _draw_line(axes, history, phase, name=name, colour=f"C{colour}")
        axes.legend(fontsize=8)
    with replaced_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _draw_line(
    axes: Axes, history: Sequence[dict[str, Any]], phase: str, *, name: str, colour: str
) -> None:
    def values(key: str) -> list[float]:
        found = [row.get(phase, {}).get(key) for row in history]
        return [float("nan") if value is None else value for value in found]

    if not any(name in row.get(phase, {}) for row in history):
        return
    epochs = [row["epoch"] for row in history]
    label = f"{name.replace('_', ' ')}, {phase}"
    if any(f"{name}_low" in row.get(phase, {}) for row in history):
        label += ", 95 % interval"
    # Markers, since a first epoch alone has no line.
    axes.plot(epochs, values(name), color=colour, linestyle=LINES[phase], marker=".", label=label)
    axes.fill_between(
        epochs, values(f"{name}_low"), values(f"{name}_high"), color=colour, alpha=0.15, lw=0
    )


class TrainingCurves:
    """Keeps the metrics of every epoch in ``history.json`` and draws them as ``curves.png``.

    A resumed training goes on with the history of the epochs before the one it resumes at; a new
    one in the same folder begins anew. Attach it to the trainer.

    Args:
        run_dir: folder of the two files, made if needed.
        evaluator: the validation engine; its metrics stand at the trainer's epoch.

    Raises:
        ValueError: when training starts, if ``run_dir`` cannot be written.
    """

    def __init__(self, run_dir: str | Path, evaluator: Engine) -> None:
        self.run_dir = Path(run_dir)
        self.evaluator = evaluator
        self._rows: dict[int, dict[str, Any]] | None = None

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine`` and the evaluator."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._record, engine, "training")
        # Once an epoch, when training and validation of the one before are both there.
        engine.add_event_handler(Events.EPOCH_STARTED, self._draw)
        engine.add_event_handler(Events.COMPLETED, self._draw)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._record, engine, "validation")

    def _start(self, _engine: Engine) -> None:
        writable_folder(self.run_dir)
        # Read at the first epoch's end: by then a checkpoint has set the epoch, in whatever
        # order the handlers stand.
        self._rows = None

    def _record(self, engine: Engine, trainer: Engine, phase: str) -> None:
        epoch = trainer.state.epoch
        if epoch == 0:  # the evaluator runs by itself
            return
        if self._rows is None:
            self._rows = {row["epoch"]: row for row in self._earlier() if row["epoch"] < epoch}
        row = self._rows.setdefault(epoch, {"epoch": epoch})
        row[phase] = finite_scalars(engine.state.metrics)
        write_json(self.run_dir / "history.json", list(self._rows.values()))

    def _draw(self, _engine: Engine) -> None:
        if self._rows:
            draw_curves(list(self._rows.values()), self.run_dir / "curves.png")

    def _earlier(self) -> list[dict[str, Any]]:
        try:
            return json.loads((self.run_dir / "history.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
