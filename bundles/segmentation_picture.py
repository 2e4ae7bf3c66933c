"""What a segmenter found in a few scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bundles.axial_slice import AXIAL, draw_axial_slice
from bundles.predicted_scans import predicted_scans
from handlers.lps_planes import LpsPlanes
from handlers.middle_voxel import middle_voxel
from handlers.plane_panel import FOUND_LINE, TRUE_LINE, outline_mask

COLUMNS = 3
SHOWN_MM = 100.0  # round the nodule


def draw_segmentations(items: Sequence[Mapping[str, Any]], predictions: Path, path: Path) -> None:
    """Draw the axial slice round each scan's largest nodule, with true and found outlines.

    Args:
        items: datalist items with a mask and at least one nodule, paths absolute.
        predictions: folder with the ``predictions.json`` of these scans and their masks.
        path: the PNG.
    """
    rows = -(-len(items) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 4.4 * rows), facecolor="black")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    results = predicted_scans(predictions)
    for item, axis in zip(items, panels, strict=False):
        entry = results[item["image"]]
        _draw(axis, item, predictions / entry["mask_file"])
        count, found = len(item["boxes"]), entry["nodules_in_mask"]
        text = f"{item['patient_id']}: {count} nodule{'s' * (count > 1)}, {found} found"
        axis.set_title(text, color="white", fontsize=10)
    for axis in panels:
        axis.set_axis_off()
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.07 / rows, wspace=0.03, hspace=0.1)
    figure.savefig(path, dpi=80, facecolor="black")


def _draw(axis: Axes, item: Mapping[str, Any], found: Path) -> None:
    scan: Any = nib.load(item["image"])
    truth = _labels(item["mask"])
    largest = int(np.bincount(truth[truth > 0].astype(int)).argmax())
    centre = middle_voxel(truth, tuple(slice(0, size) for size in truth.shape), largest)
    draw_axial_slice(axis, scan, (scan.affine @ [*centre, 1])[:3].tolist(), boxes_mm=())
    planes = LpsPlanes(scan.affine, scan.shape)
    centre_mm = planes.millimetres(centre + 0.5)
    pixel_mm = planes.spacing_mm[AXIAL.row], planes.spacing_mm[AXIAL.column]
    for mask, line in ((truth, TRUE_LINE), (_labels(found), FOUND_LINE)):
        outline_mask(axis, planes.cut(mask, AXIAL, centre_mm), pixel_mm, line)
    x, y = centre_mm[AXIAL.column], centre_mm[AXIAL.row]
    axis.set_xlim(x - SHOWN_MM / 2, x + SHOWN_MM / 2)
    axis.set_ylim(y + SHOWN_MM / 2, y - SHOWN_MM / 2)


def _labels(path: str | Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj)
