"""A picture of three planes through a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from handlers.lps_planes import PLANE_VIEWS, LpsPlanes, PlaneView
from handlers.plane_panel import (
    FOUND_LINE,
    TEXT_COLOUR,
    TRUE_LINE,
    draw_close_up_marks,
    draw_marks,
    draw_plane,
    outline_boxes,
    outline_mask,
)

LUNG_WINDOW_HU = (-1350.0, 150.0)
INTENDED_USE = "Research use only; not for clinical decisions."
OVERLAY_LABEL = "attention, multiple of uniform"
OVERLAY_SHARE = 0.25  # of the overlay's maximum; below it the anatomy stays untouched
OVERLAY_ALPHA = 0.45
# The dark end of "hot" would look like shadow on a grey image.
OVERLAY_COLOURS = ListedColormap(matplotlib.colormaps["hot"](np.linspace(0.3, 0.9, 256)))
CLOSE_UP_MM = 60.0
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
    mask: torch.Tensor | None = None,
    found_mask: torch.Tensor | None = None,
    title: str = "",
    window: tuple[float, float] = LUNG_WINDOW_HU,
) -> None:
    """Writes a PNG of the axial, coronal and sagittal planes through one voxel.

    Radiological convention whatever the scan's orientation: the patient's right on the viewer's
    left, anterior or superior on top; an oblique scan is shown along its nearest axes. One
    millimetre has the same length in all planes. A 2D image gives its one plane. With a mask, a
    second row shows the 60 mm round the voxel.

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
        mask: of the scan's shape; what is not 0 is outlined along its voxels' faces.
        found_mask: the same for the mask that a network found, in another colour and dashed.
        title: first line of the picture.
        window: values shown black and white.

    Raises:
        ValueError: the point is outside the scan, or overlay or mask have another shape.
        OSError: the file cannot be written.
    """
    shape, rank = tuple(scan.shape[1:]), scan.ndim - 1
    index = np.rint(np.asarray(point_voxel, float)).astype(int)
    if len(index) != rank or (index < 0).any() or (index >= shape).any():
        raise ValueError(
            f"point_voxel must lie inside the scan of shape {shape}, got {index.tolist()}"
        )
    for name, image in (("overlay", overlay), ("mask", mask), ("found_mask", found_mask)):
        if image is not None and tuple(image.shape[1:]) != shape:
            raise ValueError(
                f"{name} must have the scan's shape {shape}, got {tuple(image.shape[1:])}"
            )
    volume = _volume(scan)
    affine = to_affine_nd(3, scan.affine.detach().cpu().numpy().astype(float))
    planes = LpsPlanes(affine, volume.shape)
    point_mm = planes.millimetres(_in_3d(index + 0.5, fill=0.5))
    boxes = [(_box_mm(box, planes, rank), TRUE_LINE) for box in boxes_voxel]
    boxes += [(_box_mm(box, planes, rank), FOUND_LINE) for box in found_voxel]
    drawn = ((mask, TRUE_LINE), (found_mask, FOUND_LINE))
    masks = [(_volume(image), line) for image, line in drawn if image is not None]
    views = PLANE_VIEWS if rank == 3 else [_only_view(planes)]

    figure = Figure(facecolor="black")
    heat = None if overlay is None else _volume(overlay)
    highest = 0.0 if heat is None else float(heat.max())
    lowest = max(overlay_from, OVERLAY_SHARE * highest)
    rows = _panels(figure, planes, views, close_ups=bool(masks))
    for axes, view in zip(rows, [*views] * (len(rows) // len(views)), strict=True):
        low, high = window
        draw_plane(axes, view, planes.size_mm, planes.cut(volume, view, point_mm), low, high)
        if heat is not None and highest > lowest:
            strength = (planes.cut(heat, view, point_mm) - lowest) / (highest - lowest)
            draw_plane(axes, view, planes.size_mm, _translucent(strength.clip(0, 1)), 0, 1)
        outline_boxes(axes, view, point_mm, boxes)
        pixel_mm = planes.spacing_mm[view.row], planes.spacing_mm[view.column]
        for found, line in masks:
            outline_mask(axes, planes.cut(found, view, point_mm), pixel_mm, line)
    for axes, view in zip(rows, views, strict=False):
        draw_marks(axes, view, point_mm, planes.size_mm)
    for axes, view in zip(rows[len(views) :], views, strict=False):
        draw_close_up_marks(axes, view, point_mm, CLOSE_UP_MM)
    if heat is not None:
        _explain(figure, lowest, highest)
    point_ras_mm = affine[:rank, :3] @ _in_3d(index, fill=0) + affine[:rank, 3]
    _write(figure, title, _footer(index, point_ras_mm, window))
    figure.savefig(path, format="png", dpi=DPI, facecolor="black")


def _volume(image: torch.Tensor) -> np.ndarray:
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


def _panels(
    figure: Figure, planes: LpsPlanes, views: Sequence[PlaneView], *, close_ups: bool
) -> list[Axes]:
    """Panels of the views to one scale, then their close-ups; also sets the figure's size."""
    sizes_mm = [(planes.size_mm[view.column], planes.size_mm[view.row]) for view in views]
    across_mm, highest_mm = sum(size[0] for size in sizes_mm), max(size[1] for size in sizes_mm)
    gaps_inch = GAP_INCH * (len(views) + 1)
    inch_per_mm = min((WIDTH_INCH - gaps_inch) / across_mm, HEIGHT_INCH / highest_mm)
    # A narrow picture still needs room for its texts.
    width = max(across_mm * inch_per_mm + gaps_inch, 0.6 * WIDTH_INCH)
    height = highest_mm * inch_per_mm
    side = min((width - gaps_inch) / len(views), HEIGHT_INCH) if close_ups else 0.0
    below = FOOTER_INCH + (side + GAP_INCH if close_ups else 0.0)
    figure.set_size_inches(width, below + height + HEADER_INCH)
    sizes = [(across * inch_per_mm, up * inch_per_mm) for across, up in sizes_mm]
    panels = _row(figure, sizes, below, height)
    return panels + (_row(figure, [(side, side)] * len(views), FOOTER_INCH, side) if side else [])


def _row(
    figure: Figure, sizes_inch: Sequence[tuple[float, float]], bottom: float, height: float
) -> list[Axes]:
    """Panels of these widths and heights side by side, in the middle of the figure."""
    total, panels = figure.get_size_inches(), []
    gaps = GAP_INCH * (len(sizes_inch) + 1)
    left = (total[0] - sum(size[0] for size in sizes_inch) - gaps) / 2 + GAP_INCH
    for size in sizes_inch:
        corner = left, bottom + (height - size[1]) / 2
        axes = figure.add_axes((*(corner / total), *(size / total)))
        axes.set_axis_off()
        panels.append(axes)
        left += size[0] + GAP_INCH
    return panels


def _translucent(strength: np.ndarray) -> np.ndarray:
    """RGBA ``(rows, columns, 4)`` of an overlay of 0 (not shown) to 1 (its maximum)."""
    colours = OVERLAY_COLOURS(strength)
    # Opacity rises steeply, so that the rim of a hot spot is seen too.
    colours[..., 3] = OVERLAY_ALPHA * np.sqrt(strength)
    return colours


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
