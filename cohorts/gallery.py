"""Pictures of a cohort: slices of some scans with their nodules outlined."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cohorts.datalist import SPLITS, Item, load_datalist, read_datalist
from transforms.read_volume import read_volume

LUNG_WINDOW_HU = (-1350.0, 150.0)
COLOURS = ("deepskyblue", "orangered")
CENTIMETRES = 8.0


def draw_gallery(
    datalist: str | Path, output: str | Path, *, split: str = "training", scans: int = 4
) -> Path:
    """Draw axial, coronal and sagittal slices of some scans of a cohort as a PNG.

    Each scan is cut through its largest nodule, malignant ones first, or through the middle
    where it has none. The patient's right is on the left of the picture, as radiologists look.
    2D images, those of a cohort with boxes in 2D, stand side by side.

    Raises as :func:`cohorts.load_datalist`, and ``ValueError`` if ``scans`` is below 1.
    """
    if scans < 1:
        raise ValueError(f"scans must be 1 or more, got {scans}")
    items = _varied(load_datalist(datalist, split), scans)
    cohort = read_datalist(datalist)
    flat = cohort["box_mode"] == "ccwh"
    rows, columns = (1, len(items)) if flat else (len(items), 3)
    figure = Figure(
        figsize=(columns * CENTIMETRES / 2.54, rows * CENTIMETRES / 2.54), facecolor="black"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, item in zip(axes.T if flat else axes, items, strict=True):
        (_draw_image if flat else _draw_scan)(row, item)
    legend = [
        Line2D([], [], color=colour, label=f"{name} {'mass' if flat else 'nodule'}")
        for name, colour in zip(("benign", "malignant"), COLOURS, strict=True)
    ]
    figure.legend(handles=legend, loc="lower center", ncols=2, labelcolor="white", frameon=False)
    kind = "synthetic phantoms, not patients" if cohort.get("synthetic") else "scans"
    window = f", lung window {LUNG_WINDOW_HU[0]:.0f} to {LUNG_WINDOW_HU[1]:.0f} HU"
    figure.suptitle(f"{kind}: {split}{'' if flat else window}", color="white", fontsize=11)
    foot = 0.8 / (rows * CENTIMETRES)
    figure.tight_layout(rect=(0, foot, 1, 1 - foot / 2), pad=0.4, h_pad=1.4)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110, facecolor="black")
    return output


def _varied(items: list[Item], count: int) -> list[Item]:
    """Some of the items: positive, benign and clean ones in turn, in the datalist's order."""
    groups = [
        [item for item in items if item.get("risk") == 1],
        [item for item in items if item.get("risk") != 1 and item.get("boxes")],
        [item for item in items if item.get("risk") != 1 and not item.get("boxes")],
    ]
    # The order of one round: half of the scans are positive.
    turns = (0, 1, 0, 2)
    chosen: list[Item] = []
    turn = 0
    while len(chosen) < min(count, len(items)):
        group = groups[turns[turn % len(turns)]]
        if group:
            chosen.append(group.pop(0))
        turn += 1
    return chosen


def _draw_scan(row: NDArray[Any], item: Item) -> None:
    # RAS: columns to the right, rows to the front, slices to the head.
    image = nib.as_closest_canonical(nib.load(item["image"]))
    hu = np.asarray(image.dataobj)
    mask = np.zeros(hu.shape, dtype=np.uint8)
    if item.get("mask"):
        mask = np.asarray(nib.as_closest_canonical(nib.load(item["mask"])).dataobj)
    x, y, z = _focus(item, image.affine, hu.shape)
    step = image.header.get_zooms()[:3]
    views = (
        ("axial", hu[:, :, z], mask[:, :, z], step[1] / step[0]),
        ("coronal", hu[:, y, :], mask[:, y, :], step[2] / step[0]),
        ("sagittal", hu[x], mask[x], step[2] / step[1]),
    )
    labels = item.get("box_labels", [])
    for axis, (name, plane, cut, aspect) in zip(row, views, strict=True):
        _draw_plane(axis, plane, cut, labels, aspect=float(aspect), window=LUNG_WINDOW_HU)
        axis.set_title(name, color="white", fontsize=8, pad=2)
    _describe(row[0], item, step)


def _draw_image(row: NDArray[Any], item: Item) -> None:
    image, affine = read_volume(item["image"], spatial_dims=2)
    mask = read_volume(item["mask"], 2)[0] if item.get("mask") else np.zeros_like(image)
    turn = nib.orientations.io_orientation(affine)[:2]
    step = np.linalg.norm(affine[:3, :2], axis=0)[np.argsort(turn[:, 0])]
    plane, cut = (nib.orientations.apply_orientation(array, turn) for array in (image, mask))
    # Units differ from detector to detector; a few bright pixels, metal say, are cut off.
    window = float(plane.min()), float(np.percentile(plane, 99.9))
    aspect, labels = float(step[1] / step[0]), item.get("box_labels", [])
    _draw_plane(row[0], plane, cut, labels, aspect=aspect, window=window)
    _describe(row[0], item, step)


def _describe(axis: Axes, item: Item, spacing_mm: Sequence[float] | NDArray[Any]) -> None:
    side = item.get("side", "unknown")
    risk = f"cancer, {side}" if item.get("risk") == 1 else "no cancer"
    spacing = " x ".join(f"{value:.2g}" for value in spacing_mm)
    axis.set_title(f"{item['patient_id']}: {risk}, {spacing} mm", color="white", fontsize=8, pad=2)


def _draw_plane(
    axis: Axes,
    plane: NDArray[Any],
    cut: NDArray[Any],
    labels: list[int],
    *,
    aspect: float,
    window: tuple[float, float],
) -> None:
    low, high = window
    # Mirrored, so that the patient's right (or front) lies on the left of the picture.
    axis.imshow(plane.T[::-1, ::-1], cmap="gray", vmin=low, vmax=high, aspect=aspect)
    for instance, label in enumerate(labels, start=1):
        shown = cut.T[::-1, ::-1] == instance
        if shown.any():
            axis.contour(shown.astype(float), levels=[0.5], colors=COLOURS[label], linewidths=1.1)
    axis.axis("off")


def _focus(item: Item, affine: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, int, int]:
    boxes = item.get("boxes", [])
    if not boxes:
        return shape[0] * 2 // 3, shape[1] // 2, shape[2] // 2
    order = [
        (label, float(np.prod(box[3:])))
        for label, box in zip(item["box_labels"], boxes, strict=True)
    ]
    box = boxes[order.index(max(order))]
    index = np.linalg.solve(affine, [*box[:3], 1.0])[:3]
    x, y, z = (
        int(np.clip(round(value), 0, size - 1)) for value, size in zip(index, shape, strict=True)
    )
    return x, y, z


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: draw a cohort's gallery."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.gallery",
        description="Draw slices of a cohort's scans with their nodules outlined, as a PNG.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--datalist", type=Path, required=True, help="the cohort's JSON")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--split", choices=SPLITS, default="training", help="which scans")
    parser.add_argument("--scans", type=int, default=4, help="how many scans")
    options = parser.parse_args(arguments)
    try:
        print(
            draw_gallery(options.datalist, options.output, split=options.split, scans=options.scans)
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
