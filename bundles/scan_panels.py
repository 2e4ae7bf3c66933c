"""A picture with a panel for each of a few scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundles.predicted_scans import predicted_scans

COLUMNS = 3

#: Draws a datalist's item with what was predicted of it; returns how many nodules were found.
DrawPanel = Callable[[Axes, Mapping[str, Any], Mapping[str, Any]], int]


def scan_panels(
    items: Sequence[Mapping[str, Any]], predictions: Path, path: Path, draw: DrawPanel
) -> None:
    """Draw each scan in a panel of its own, with the counts of its nodules above.

    Args:
        items: datalist items with at least one box, paths absolute.
        predictions: folder with the ``predictions.json`` of these scans.
        path: the PNG.
        draw: what a panel shows.
    """
    rows = -(-len(items) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 4.2 * rows), facecolor="black")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    results = predicted_scans(predictions)
    for item, axis in zip(items, panels, strict=False):
        found, count = draw(axis, item, results[item["image"]]), len(item["boxes"])
        text = f"{item['patient_id']}: {count} nodule{'s' * (count > 1)}, {found} found"
        axis.set_title(text, color="white", fontsize=10)
    for axis in panels:
        axis.set_axis_off()
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=80, facecolor="black")
