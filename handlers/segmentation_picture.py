"""Masks of nodules against the true ones, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cohorts.replaced_file import replaced_file
from handlers.three_planes import INTENDED_USE
from metrics import SIZE_CLASSES, SegmentedNodule


def segmentation_picture(nodules: Sequence[SegmentedNodule], *, path: Path, title: str) -> None:
    """Draws each nodule's Dice against its diameter, with the mean of each size class, and the
    predicted against the true volume of the found ones, as PNG.

    Args:
        nodules: at least one.
        path: the PNG.
        title: over the whole picture.
    """
    figure = Figure(figsize=(11, 5.6))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(0.065, 0.17, 0.985, 0.86, wspace=0.2)
    figure.suptitle(title, fontsize=11)
    figure.text(0.5, 0.015, INTENDED_USE, ha="center", fontsize=8)
    _draw_dice(left, nodules)
    _draw_volumes(right, nodules)
    with replaced_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _draw_dice(axes: Axes, nodules: Sequence[SegmentedNodule]) -> None:
    for found, marker, word in ((True, "o", "found"), (False, "x", "not found")):
        part = [nodule for nodule in nodules if nodule.found == found]
        axes.plot(
            [nodule.diameter_mm for nodule in part],
            [nodule.dice for nodule in part],
            marker,
            ms=4,
            alpha=0.6,
            label=f"{len(part)} {word}",
        )
    classes = [[n for n in nodules if n.size_class == size] for size in SIZE_CLASSES]
    axes.plot(
        [np.mean([nodule.diameter_mm for nodule in part]) for part in classes if part],
        [np.mean([nodule.dice for nodule in part]) for part in classes if part],
        "D-",
        color="0.25",
        label="means of the size classes",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("diameter of the true nodule in mm")
    axes.set_ylabel("Dice")
    axes.set_title(f"mean Dice {np.mean([nodule.dice for nodule in nodules]):.3f}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _draw_volumes(axes: Axes, nodules: Sequence[SegmentedNodule]) -> None:
    found = [nodule for nodule in nodules if nodule.found]
    true = [nodule.volume_mm3 for nodule in found]
    predicted = [nodule.predicted_mm3 for nodule in found]
    volumes = [*true, *predicted] or [10.0, 1000.0]
    ends = [min(volumes) / 1.3, max(volumes) * 1.3]
    axes.plot(ends, ends, color="0.6", linestyle=":", label="as large as the true one")
    axes.plot(true, predicted, "o", ms=4, alpha=0.6, label=f"{len(found)} found nodules")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("true volume in mm3 (2D: area in mm2)")
    axes.set_ylabel("predicted volume in mm3 (2D: area in mm2)")
    errors = [abs(nodule.volume_error_percent or 0) for nodule in found]
    error = f": median error {np.median(errors):.0f} %" if found else ""
    axes.set_title(f"volume of found nodules{error}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
