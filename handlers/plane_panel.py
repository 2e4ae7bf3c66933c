"""What is drawn in one panel of a picture of planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from handlers.lps_planes import PlaneView

MARK_COLOUR, TEXT_COLOUR = "deepskyblue", "white"
TRUE_LINE = {"edgecolor": "lime", "linestyle": "-"}
FOUND_LINE = {"edgecolor": "magenta", "linestyle": "--"}
CROSS_GAP_MM, SCALE_BAR_MM = 15.0, 50.0
LINE_WIDTH = 1.2


def draw_plane(
    axes: Axes, view: PlaneView, size_mm: np.ndarray, plane: np.ndarray, low: float, high: float
) -> None:
    """Fills the panel with a plane ``(rows, columns)`` of :meth:`LpsPlanes.cut`.

    From here on the panel's coordinates are millimetres along the view's column and row axes.
    ``low`` is shown black and ``high`` white; a plane of RGBA ``(rows, columns, 4)`` as it is.
    """
    width, height = size_mm[view.column], size_mm[view.row]
    axes.imshow(
        plane,
        cmap="gray",
        vmin=low,
        vmax=high,
        origin="upper" if view.rows_go_down else "lower",
        extent=(0, width, height, 0) if view.rows_go_down else (0, width, 0, height),
        aspect="auto",  # the panel already has the plane's proportions
        interpolation="bilinear",
    )


def draw_marks(axes: Axes, view: PlaneView, point_mm: np.ndarray, size_mm: np.ndarray) -> None:
    """Cross hair with a gap, so that what it points at is seen; directions; scale bar."""
    x, y = point_mm[view.column], point_mm[view.row]
    width, height = size_mm[view.column], size_mm[view.row]
    gap = min(CROSS_GAP_MM, 0.1 * width, 0.1 * height)
    axes.hlines([y, y], [0, x + gap], [x - gap, width], MARK_COLOUR, linewidth=0.8)
    axes.vlines([x, x], [0, y + gap], [y - gap, height], MARK_COLOUR, linewidth=0.8)
    places = ((0.015, 0.5), (0.985, 0.5), (0.5, 0.985), (0.5, 0.015))
    aligned = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
    for letter, place, (across, up) in zip(view.letters, places, aligned, strict=False):
        _text(axes, *place, letter, ha=across, va=up, size=13)
    _text(axes, 0.015, 0.985, view.name, ha="left", va="top", size=11)
    _limit(axes, view, (0, width), (0, height))


def draw_close_up_marks(axes: Axes, view: PlaneView, point_mm: np.ndarray, side_mm: float) -> None:
    """Narrows the panel to a square round the point, with a scale bar of its own."""
    x, y = point_mm[view.column], point_mm[view.row]
    half = side_mm / 2
    _limit(axes, view, (x - half, x + half), (y - half, y + half))


def outline_boxes(
    axes: Axes,
    view: PlaneView,
    point_mm: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, Mapping[str, Any]]],
) -> None:
    """Outlines of boxes, low and high corner ``(2, 3)`` in mm, that the plane cuts."""
    for (low, high), line in outlines:
        if not low[view.normal] <= point_mm[view.normal] <= high[view.normal]:
            continue
        across, up = (high - low)[view.column], (high - low)[view.row]
        corner = low[view.column], low[view.row]
        axes.add_patch(Rectangle(corner, across, up, fill=False, linewidth=LINE_WIDTH, **line))


def outline_mask(
    axes: Axes,
    plane: npt.NDArray[Any],
    pixel_mm: tuple[float, float],
    line: Mapping[str, Any],
) -> None:
    """Outline along the pixels' edges of what is not 0 in a plane.

    Args:
        axes: whose coordinates are millimetres from the plane's first corner.
        plane: ``(rows, columns)``.
        pixel_mm: height and width of a pixel.
        line: ``edgecolor`` and ``linestyle``.
    """
    inside = np.asarray(plane) != 0
    if not inside.any():
        return
    edges = []
    for axis, step_mm in enumerate(pixel_mm):
        filled = np.flatnonzero(inside.any(axis=1 - axis))
        first, stop = int(filled[0]) - 1, int(filled[-1]) + 2
        # Two points in each pixel, next to its edges: half way to the neighbour's is the edge.
        ends = np.arange(first, stop)[:, None] + [0.02, 0.98]
        edges.append(ends.ravel() * step_mm)
        inside = inside.take(range(first + 1, stop - 1), axis=axis)
    fine = np.pad(inside, 1).repeat(2, axis=0).repeat(2, axis=1)
    rows_mm, columns_mm = edges
    axes.contour(
        columns_mm,
        rows_mm,
        fine,
        levels=[0.5],
        colors=[line["edgecolor"]],
        linestyles=[line["linestyle"]],
        linewidths=LINE_WIDTH,
    )


def _limit(
    axes: Axes, view: PlaneView, columns_mm: tuple[float, float], rows_mm: tuple[float, float]
) -> None:
    """Shows this part of the plane, with a scale bar."""
    low, high = rows_mm
    axes.set_xlim(*columns_mm)
    axes.set_ylim((high, low) if view.rows_go_down else (low, high))
    width = columns_mm[1] - columns_mm[0]
    bar_mm = SCALE_BAR_MM if width > 2 * SCALE_BAR_MM else 10.0
    axes.plot(
        [0.03, 0.03 + bar_mm / width],
        [0.04, 0.04],
        transform=axes.transAxes,
        color=TEXT_COLOUR,
        linewidth=2,
        path_effects=[withStroke(linewidth=4, foreground="black")],
    )
    _text(axes, 0.03, 0.055, f"{bar_mm:g} mm", ha="left", va="bottom", size=9)


def _text(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str, size: int) -> None:
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        color=TEXT_COLOUR,
        ha=ha,
        va=va,
        fontsize=size,
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )
