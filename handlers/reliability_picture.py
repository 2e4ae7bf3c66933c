"""Predicted risk against how often cancer was there, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from cohorts.replaced_file import replaced_file
from handlers.three_planes import INTENDED_USE
from metrics import (
    ReliabilityBins,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)


def reliability_picture(
    risks: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    path: Path,
    title: str,
) -> None:
    """Draws reliability diagrams side by side as PNG, over :func:`metrics.reliability_bins`.

    Each bin's number of scans stands at its point; the bar is the 95 % Wilson interval of its
    weighted share of cancers for that number.

    Args:
        risks: name of a forecast, such as "before calibration", to its risks ``(scans,)``.
        labels: ``(scans,)`` of 0 and 1, at least one.
        weights: ``(scans,)``, how much each counts, above 0.
        path: the PNG.
        title: over the whole picture.
    """
    figure = Figure(figsize=(5.2 * len(risks), 5.8))
    panels = figure.subplots(1, len(risks), squeeze=False)[0]
    figure.subplots_adjust(0.13 / len(risks), 0.15, 1 - 0.04 / len(risks), 0.86, wspace=0.2)
    figure.suptitle(title, fontsize=11)
    figure.text(0.5, 0.015, INTENDED_USE, ha="center", fontsize=8)
    for axes, (name, forecast) in zip(panels, risks.items(), strict=True):
        _draw(axes, reliability_bins(forecast, labels, weights))
        brier = brier_score(forecast, labels, weights)
        error = expected_calibration_error(forecast, labels, weights)
        axes.set_title(f"{name}: Brier {brier:.3f}, ECE {error:.3f}", fontsize=10)
    with replaced_file(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _draw(axes: Axes, bins: ReliabilityBins) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="risk as observed")
    low, high = [], []
    for share, count in zip(bins.observed, bins.scans, strict=True):
        ends = binomtest(round(share * count), int(count)).proportion_ci(method="wilson")
        low.append(max(0.0, share - ends.low))
        high.append(max(0.0, ends.high - share))
    axes.errorbar(
        bins.mean_risk,
        bins.observed,
        yerr=[low, high],
        fmt="o",
        capsize=2,
        label="equal-mass bins: scans, 95 % interval",
    )
    for risk, share, count in zip(*bins, strict=True):
        axes.annotate(str(count), (risk, share), (4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.05)
    axes.set_aspect("equal")
    axes.set_xlabel("mean predicted risk")
    axes.set_ylabel("share with cancer")
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.3)
