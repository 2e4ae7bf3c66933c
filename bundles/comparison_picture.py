"""A comparison as a picture: a panel for each measure, a dot with its interval for each arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundles.comparison_table import cohort_line
from cohorts.replaced_file import replaced_file

COLUMNS = 3


def draw_comparison(content: Mapping[str, Any], path: Path) -> None:
    """Draw the means over the seeds with their intervals, and each seed as a small dot.

    Args:
        content: that of ``comparison.json``.
        path: the PNG.
    """
    measures = list(content["measures"].values())
    rows = -(-len(measures) // COLUMNS)
    height = rows * (0.9 + 0.32 * len(content["arms"])) + 0.7
    figure = Figure(figsize=(4.6 * COLUMNS, height), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
    for axis, measure in zip(axes, measures, strict=False):
        _draw(axis, measure, content)
    for axis in axes[len(measures) :]:
        axis.set_axis_off()
    names = list(content["arms"])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(
        f"{content['bundle']} on {content['datalist']['name']}: mean over seeds, 95 % interval "
        f"over test patients, each seed in grey\n{cohort_line(content)}",
        fontsize=10,
    )
    with replaced_file(path) as partial:
        figure.savefig(partial, dpi=110)


def _draw(axis: Axes, measure: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    for row, arm in enumerate(content["arms"]):
        entry = measure["arms"].get(arm)
        if entry is None or entry["value"] is None:
            continue
        seeds = [value for value in entry["seed_values"] if value is not None]
        axis.plot(seeds, [row + 0.22] * len(seeds), ".", color="0.6", markersize=4)
        colour = "C7" if arm == content["reference"] else "C0"
        if entry["low"] is not None:
            axis.hlines(row, entry["low"], entry["high"], color=colour)
        axis.plot(entry["value"], row, "o", color=colour, markersize=6)
        if arm == content["reference"]:
            axis.axvline(entry["value"], color="0.8", linestyle="--", linewidth=1, zorder=0)
    # Arms that are all alike would be told apart by rounding errors.
    low, high = axis.get_xlim()
    margin = max(0.0, 10 ** -measure["decimals"] - (high - low)) / 2
    axis.set_xlim(low - margin, high + margin)
    axis.set_title(f"{measure['title']} ({measure['scans']} scans)", fontsize=10)
    axis.grid(axis="x", alpha=0.3)
