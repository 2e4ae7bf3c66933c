"""The same scans under several trainings, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from handlers.lps_planes import PLANE_VIEWS, LpsPlanes
from handlers.three_planes import LUNG_WINDOW_HU, OVERLAY_COLOURS

AXIAL = PLANE_VIEWS[0]
SHOWN_MULTIPLES = (10.0, 1000.0)  # of uniform attention, for every map alike


def draw_attention_comparison(
    items: Sequence[Mapping[str, Any]], predictions: Mapping[str, Path], path: Path
) -> None:
    """Draw the axial slice through each scan's cancer: the scan, and what each training looked at.

    Args:
        items: datalist items with at least one malignant box, paths absolute.
        predictions: title of each column to a folder with the ``predictions.json`` of these scans.
        path: the PNG.

    Attention of at least ten times the average is shown, on one scale for all maps, so a column
    with no colour in this slice looked elsewhere or nowhere in particular.
    """
    columns = len(predictions) + 1
    figure = Figure(figsize=(4.2 * columns, 3.9 * len(items) + 0.5), facecolor="black")
    axes = figure.subplots(len(items), columns, squeeze=False)
    results = {title: _by_scan(folder) for title, folder in predictions.items()}
    for row, item in zip(axes, items, strict=True):
        scan: Any = nib.load(item["image"])
        boxes_mm = _cancer_boxes_mm(item)
        planes = LpsPlanes(scan.affine, scan.shape)
        _draw(row[0], planes, scan, box_mm=boxes_mm[0])
        row[0].set_title(f"{item['patient_id']}: cancer in the box", color="white", fontsize=10)
        for axis, (title, folder) in zip(row[1:], predictions.items(), strict=True):
            result = results[title][item["image"]]
            volume: Any = nib.load(folder / result["attention"])
            attention = volume.get_fdata(dtype=np.float32)
            _draw(axis, planes, scan, box_mm=boxes_mm[0], attention=attention)
            away_mm = distance_to_boxes_mm(np.array(result["peak_ras_mm"]), boxes_mm)
            peak = "peak in the cancer" if away_mm == 0 else f"peak {away_mm:.0f} mm from it"
            text = f"{title}: risk {result['raw_risk']:.2f}, {peak}"
            axis.set_title(text, color="white", fontsize=10)
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=80, facecolor="black")


def distance_to_boxes_mm(point_mm: np.ndarray, boxes_mm: np.ndarray) -> float:
    """Millimetres from a point ``(3,)`` to the nearest box ``(N, 6)`` (cccwhd), 0 inside one."""
    outside_mm = np.abs(point_mm - boxes_mm[:, :3]) - boxes_mm[:, 3:] / 2
    return float(np.linalg.norm(outside_mm.clip(min=0), axis=1).min())


def _cancer_boxes_mm(item: Mapping[str, Any]) -> np.ndarray:
    pairs = zip(item["boxes"], item["box_labels"], strict=True)
    return np.array([box for box, label in pairs if label == 1])


def _by_scan(folder: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / "predictions.json").read_text())
    return {scan["scan"]: scan for scan in content["scans"]}


def _draw(
    axis: Axes,
    planes: LpsPlanes,
    scan: Any,
    *,
    box_mm: np.ndarray,
    attention: np.ndarray | None = None,
) -> None:
    centre_voxel = np.linalg.inv(scan.affine) @ [*box_mm[:3], 1]
    centre_mm = planes.millimetres(centre_voxel[:3] + 0.5)
    size_mm = planes.size_mm
    extent = (0.0, size_mm[AXIAL.column], size_mm[AXIAL.row], 0.0)
    low_hu, high_hu = LUNG_WINDOW_HU
    hu = planes.cut(np.asanyarray(scan.dataobj), AXIAL, centre_mm)
    axis.imshow(hu, cmap="gray", vmin=low_hu, vmax=high_hu, extent=extent)
    if attention is not None:
        shown = planes.cut(attention, AXIAL, centre_mm)
        shown = np.ma.masked_less(shown, SHOWN_MULTIPLES[0])
        scale = LogNorm(*SHOWN_MULTIPLES, clip=True)
        axis.imshow(shown, cmap=OVERLAY_COLOURS, norm=scale, alpha=0.6, extent=extent)
    # Margin of a few mm, so that the outline leaves the lesion visible.
    width_mm, height_mm = box_mm[3:5] + 8
    corner = (centre_mm[AXIAL.column] - width_mm / 2, centre_mm[AXIAL.row] - height_mm / 2)
    axis.add_patch(Rectangle(corner, width_mm, height_mm, fill=False, edgecolor="lime"))
    axis.set_axis_off()
