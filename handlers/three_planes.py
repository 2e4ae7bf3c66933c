"""A picture of three planes through a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from handlers.lps_planes import PLANE_VIEWS, LpsPlanes, PlaneView

LUNG_WINDOW_HU = (-1350.0, 150.0)
INTENDED_USE = "Research use only; not for clinical decisions."
OVERLAY_LABEL = "attention, multiple of uniform"
OVERLAY_SHARE = 0.25  # of the overlay's maximum; below it the anatomy stays untouched
OVERLAY_ALPHA = 0.45
# The dark end of "hot" would look like shadow on a grey image.
OVERLAY_COLOURS = ListedColormap(matplotlib.colormaps["hot"](np.linspace(0.3, 0.9, 256)))
MARK_COLOUR, TEXT_COLOUR = "deepskyblue", "white"
BOX_LINE = {"edgecolor": "lime"}
FOUND_LINE = {"edgecolor": "magenta", "linestyle": "--"}
CROSS_GAP_MM, SCALE_BAR_MM = 15.0, 50.0
WIDTH_INCH, HEIGHT_INCH, DPI = 16.0, 8.0, 100
GAP_INCH, HEADER_INCH, FOOTER_INCH = 0.12, 0.6, 0.36


def three_planes(
    scan: MetaTensor,
    point_voxel: npt.ArrayLike,
    path: str | Path,
    *,
    overlay: MetaTensor | None = None,
    overlay_from: float = 0.0,
    boxes_voxel: Sequence[npt.ArrayLike] = (),
    found_voxel: Sequence[npt.ArrayLike] = (),
    title: str = "",
    window: tuple[float, float] = LUNG_WINDOW_HU,
) -> None:
    """Writes a PNG of the axial, coronal and sagittal planes through one voxel.

    Radiological convention whatever the scan's orientation: the patient's right on the viewer's
    left, anterior or superior on top; an oblique scan is shown along its nearest axes. One
    millimetre has the same length in all planes. A 2D image gives its one plane.

    Args:
        scan: ``(1, H, W, D)`` or ``(1, H, W)`` with its affine.
        point_voxel: index of the voxel along H, W(, D).
        path: the PNG.
        overlay: of the scan's shape, not negative; shown from a quarter of its maximum on, and
            from ``overlay_from``, so that a diffuse one does not veil the anatomy.
        overlay_from: lowest value shown.
        boxes_voxel: corners ``(h0, w0, d0, h1, w1, d1)``, half-open as slices are; each is
            outlined in the planes that cut it.
        found_voxel: the same for boxes that a network found, in another colour and dashed.
        title: first line of the picture.
        window: values shown black and white.

    Raises:
        ValueError: the point is outside the scan, or the overlay has another shape.
        OSError: the file cannot be written.
    """
    shape, rank = tuple(scan.shape[1:]), scan.ndim - 1
    index = np.rint(np.asarray(point_voxel, float)).astype(int)
    if len(index) != rank or (index < 0).any() or (index >= shape).any():
        raise ValueError(
            f"point_voxel must lie inside the scan of shape {shape}, got {index.tolist()}"
        )
    if overlay is not None and tuple(overlay.shape[1:]) != shape:
        raise ValueError(
            f"overlay must have the scan's shape {shape}, got {tuple(overlay.shape[1:])}"
        )
    volume = _volume(scan)
    affine = to_affine_nd(3, scan.affine.detach().cpu().numpy().astype(float))
    planes = LpsPlanes(affine, volume.shape)
    point_mm = planes.millimetres(_in_3d(index + 0.5, fill=0.5))
    outlines = [(_box_mm(box, planes, rank), BOX_LINE) for box in boxes_voxel]
    outlines += [(_box_mm(box, planes, rank), FOUND_LINE) for box in found_voxel]
    views = PLANE_VIEWS if rank == 3 else [_only_view(planes)]

    figure = Figure(facecolor="black")
    heat = None if overlay is None else _volume(overlay)
    highest = 0.0 if heat is None else float(heat.max())
    lowest = max(overlay_from, OVERLAY_SHARE * highest)
    for axes, view in zip(_panels(figure, planes, views), views, strict=True):
        low, high = window
        _show(axes, view, planes.size_mm, planes.cut(volume, view, point_mm), low, high)
        if heat is not None and highest > lowest:
            strength = (planes.cut(heat, view, point_mm) - lowest) / (highest - lowest)
            _show(axes, view, planes.size_mm, _translucent(strength.clip(0, 1)), 0, 1)
        _mark(axes, view, point_mm, planes.size_mm)
        _outline(axes, view, point_mm, outlines)
    if heat is not None:
        _explain(figure, lowest, highest)
    point_ras_mm = affine[:rank, :3] @ _in_3d(index, fill=0) + affine[:rank, 3]
    _write(figure, title, _footer(index, point_ras_mm, window))
    figure.savefig(path, format="png", dpi=DPI, facecolor="black")


def _volume(image: MetaTensor) -> np.ndarray:
    array = image.detach().cpu().numpy()[0]
    return array if array.ndim == 3 else array[..., None]


def _in_3d(position: np.ndarray, fill: float) -> np.ndarray:
    return np.append(position, [fill] * (3 - len(position)))


def _box_mm(box_voxel: npt.ArrayLike, planes: LpsPlanes, rank: int) -> np.ndarray:
    """Low and high corner ``(2, 3)``; a box of a 2D image is one voxel thick."""
    low, high = np.reshape(np.asarray(box_voxel, float), (2, rank))
    corners = np.stack([_in_3d(low, fill=0), _in_3d(high, fill=1)])
    return np.sort(planes.millimetres(corners), axis=0)


def _only_view(planes: LpsPlanes) -> PlaneView:
    """The view of a 2D image; without directions, since its affine is often made up."""
    view = next(view for view in PLANE_VIEWS if planes.axes[view.normal] == 2)
    return replace(view, name="", letters="")


def _panels(figure: Figure, planes: LpsPlanes, views: Sequence[PlaneView]) -> list[Axes]:
    """Panels side by side to one scale; also sets the figure's size."""
    widths_mm = [planes.size_mm[view.column] for view in views]
    highest_mm = max(planes.size_mm[view.row] for view in views)
    gaps_inch = GAP_INCH * (len(views) + 1)
    inch_per_mm = min((WIDTH_INCH - gaps_inch) / sum(widths_mm), HEIGHT_INCH / highest_mm)
    # A narrow picture still needs room for its texts.
    width = max(sum(widths_mm) * inch_per_mm + gaps_inch, 0.6 * WIDTH_INCH)
    height = highest_mm * inch_per_mm + HEADER_INCH + FOOTER_INCH
    figure.set_size_inches(width, height)
    panels, left = [], (width - sum(widths_mm) * inch_per_mm - gaps_inch) / 2 + GAP_INCH
    for view, width_mm in zip(views, widths_mm, strict=True):
        size = width_mm * inch_per_mm, planes.size_mm[view.row] * inch_per_mm
        bottom = FOOTER_INCH + (highest_mm * inch_per_mm - size[1]) / 2
        axes = figure.add_axes((left / width, bottom / height, size[0] / width, size[1] / height))
        axes.set_axis_off()
        panels.append(axes)
        left += size[0] + GAP_INCH
    return panels


def _show(
    axes: Axes, view: PlaneView, size_mm: np.ndarray, plane: np.ndarray, low: float, high: float
) -> None:
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


def _translucent(strength: np.ndarray) -> np.ndarray:
    """RGBA ``(rows, columns, 4)`` of an overlay of 0 (not shown) to 1 (its maximum)."""
    colours = OVERLAY_COLOURS(strength)
    # Opacity rises steeply, so that the rim of a hot spot is seen too.
    colours[..., 3] = OVERLAY_ALPHA * np.sqrt(strength)
    return colours


def _mark(axes: Axes, view: PlaneView, point_mm: np.ndarray, size_mm: np.ndarray) -> None:
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
    bar = SCALE_BAR_MM if width > 2 * SCALE_BAR_MM else 10.0
    start, level = 0.03 * width, (0.96 if view.rows_go_down else 0.04) * height
    axes.plot(
        [start, start + bar],
        [level, level],
        color=TEXT_COLOUR,
        linewidth=2,
        path_effects=[withStroke(linewidth=4, foreground="black")],
    )
    _text(axes, 0.03, 0.055, f"{bar:g} mm", ha="left", va="bottom", size=9)
    axes.set_xlim(0, width)
    axes.set_ylim((height, 0) if view.rows_go_down else (0, height))


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


def _outline(
    axes: Axes,
    view: PlaneView,
    point_mm: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, dict[str, Any]]],
) -> None:
    for (low, high), line in outlines:
        if not low[view.normal] <= point_mm[view.normal] <= high[view.normal]:
            continue
        across, up = (high - low)[view.column], (high - low)[view.row]
        corner = low[view.column], low[view.row]
        axes.add_patch(Rectangle(corner, across, up, fill=False, linewidth=1.2, **line))


def _explain(figure: Figure, lowest: float, highest: float) -> None:
    """Colour bar, or where nothing is coloured, a line that says why."""
    width, height = figure.get_size_inches()
    if highest <= lowest:
        text = f"{OVERLAY_LABEL}: at most {highest:.3g}, not shown below {lowest:.3g}"
        place = 1 - GAP_INCH / width, 1 - 0.3 / height
        figure.text(*place, text, color=TEXT_COLOUR, fontsize=9, ha="right", va="center")
        return
    axes = figure.add_axes((1 - 3.2 / width, 1 - 0.2 / height, 3.0 / width, 0.12 / height))
    colours = ScalarMappable(Normalize(lowest, highest), OVERLAY_COLOURS)
    ticks = MaxNLocator(nbins=5)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=ticks)
    bar.set_label(OVERLAY_LABEL, color=TEXT_COLOUR, fontsize=9, labelpad=1)
    bar.ax.tick_params(colors=TEXT_COLOUR, labelsize=8, length=2, pad=1)


def _footer(index: np.ndarray, point_ras_mm: np.ndarray, window: tuple[float, float]) -> str:
    ras = ", ".join(f"{value:.1f}" for value in point_ras_mm)
    voxel = ", ".join(str(step) for step in index)
    low, high = window
    return f"{INTENDED_USE}   Point at RAS {ras} mm, voxel {voxel}; window {low:g} to {high:g}."


def _write(figure: Figure, title: str, footer: str) -> None:
    width, height = figure.get_size_inches()
    left = GAP_INCH / width
    figure.text(
        left, 1 - 0.3 / height, title, color=TEXT_COLOUR, fontsize=12, ha="left", va="center"
    )
    figure.text(
        left, 0.5 * FOOTER_INCH / height, footer, color="lightgrey", fontsize=10, va="center"
    )
