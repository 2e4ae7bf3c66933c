"""A FROC curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cohorts.replaced_file import replaced_file
from handlers.three_planes import INTENDED_USE
from metrics import MatchedMarks, froc_band, froc_sensitivities
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN
from metrics.froc_values import has_intervals

# Rates between those of LUNA16, evenly on the picture's logarithmic axis.
_RATES = tuple(FALSE_POSITIVES_PER_SCAN[0] * 2 ** (step / 16) for step in range(6 * 16 + 1))


def froc_picture(
    marks: MatchedMarks, parts: Mapping[str, MatchedMarks], *, path: Path, title: str
) -> None:
    """Draws the curve with its 95 % bootstrap band and LUNA16's seven points, and each part's, as
    PNG.

    Args:
        marks: of a cohort with a nodule; the band is left out where
            :func:`metrics.froc_values.has_intervals` is false.
        parts: name of a part of the nodules to its marks; those without a nodule are left out.
        path: the PNG.
        title: over the whole picture.
    """
    figure = Figure(figsize=(11, 5.6))
    whole, split = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(0.065, 0.17, 0.985, 0.86, wspace=0.06)
    figure.suptitle(title, fontsize=11)
    figure.text(0.5, 0.015, INTENDED_USE, ha="center", fontsize=8)
    _draw_whole(whole, marks)
    whole.set_ylabel("sensitivity")
    colours = matplotlib.colormaps["viridis"]
    drawn = {name: part for name, part in parts.items() if part.nodules.any()}
    for number, (name, part) in enumerate(drawn.items()):
        count = int(part.nodules.sum())
        label = f"{name}: {count} nodule{'s' if count > 1 else ''}"
        colour = colours(0.9 * number / max(1, len(drawn) - 1))
        split.plot(_RATES, froc_sensitivities(part, _RATES), color=colour, lw=1.3, label=label)
    split.set_title("by size", fontsize=10)
    for axes in (whole, split):
        axes.set_xscale("log", base=2)
        axes.set_xticks(FALSE_POSITIVES_PER_SCAN, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.set_xlim(_RATES[0] / 1.1, _RATES[-1] * 1.1)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("false marks per scan")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="best")
    with replaced_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _draw_whole(axes: Axes, marks: MatchedMarks) -> None:
    nodules = int(marks.nodules.sum())
    (line,) = axes.plot(_RATES, froc_sensitivities(marks, _RATES), label=f"all {nodules} nodules")
    points = froc_sensitivities(marks)
    axes.plot(
        FALSE_POSITIVES_PER_SCAN,
        points,
        "o",
        color=line.get_color(),
        label=f"the seven rates of LUNA16, their mean {points.mean():.3f}",
    )
    axes.set_title("all sizes", fontsize=10)
    if has_intervals(marks):
        low, high, _ = zip(*froc_band(marks, _RATES), strict=True)
        axes.fill_between(
            _RATES, low, high, color=line.get_color(), alpha=0.2, lw=0, label="95 % interval"
        )
