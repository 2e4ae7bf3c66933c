"""What a search leaves for people: a table of its trials, the best settings, a picture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.visualization.matplotlib import plot_optimization_history

from cohorts.replaced_file import replaced_file
from handlers.write_table import write_table


class TrialRow(NamedTuple):
    """One trial of a search.

    Attributes:
        name: of its folder.
        settings: what was drawn.
        value: what it is judged by; None where it failed.
        epoch: of its weights.
        seconds: of training.
        error: why it failed.
    """

    name: str
    settings: Mapping[str, Any]
    value: float | None
    epoch: int | None
    seconds: float
    error: str | None


def write_trials(rows: Sequence[TrialRow], metric: str, path: Path) -> None:
    """All trials as a CSV table in their order; a column for each setting that was varied."""
    names = list(rows[0].settings) if rows else []
    write_table(
        path,
        ["trial", metric, "epoch", "seconds", *names, "error"],
        [
            [
                row.name,
                row.value,
                row.epoch,
                row.seconds,
                *(row.settings[name] for name in names),
                row.error,
            ]
            for row in rows
        ],
    )


def write_best(best: TrialRow, metric: str, path: Path) -> None:
    """The best trial's settings as an overlay."""
    about = f"# Overlay for train.yaml: the best trial of a search, {metric} {best.value:.6g}"
    with replaced_file(path) as partial:
        text = yaml.safe_dump(dict(best.settings), sort_keys=False)
        partial.write_text(f"{about} in {best.name}.\n{text}", encoding="utf-8")


def draw_history(study: Study, metric: str, path: Path) -> None:
    """Optuna's picture of the values trial by trial, as PNG."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        axes = plot_optimization_history(study, target_name=metric)
    figure = axes.figure
    assert isinstance(figure, Figure)
    with replaced_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def trial_line(row: TrialRow, metric: str) -> str:
    """One trial in words."""
    drawn = ", ".join(f"{name} {_short(value)}" for name, value in row.settings.items())
    told = f"failed: {row.error}" if row.value is None else f"{metric} {row.value:.5g}"
    return f"{row.name}  {told}  ({row.seconds / 60:.1f} min)  {drawn}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
