"""What a detector found in a few scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from matplotlib.figure import Figure

from bundles.axial_slice import draw_axial_slice
from bundles.predicted_scans import predicted_scans

COLUMNS = 3
NODULE = {"edgecolor": "lime"}
FOUND = {"edgecolor": "magenta", "linestyle": "--"}


def draw_detections(items: Sequence[Mapping[str, Any]], predictions: Path, path: Path) -> None:
    """Draw the axial slice through each scan's largest nodule, with the boxes that lie in it.

    Args:
        items: datalist items with at least one box, paths absolute.
        predictions: folder with the ``predictions.json`` of these scans.
        path: the PNG.
    """
    rows = -(-len(items) // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.9 * rows), facecolor="black")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    results = predicted_scans(predictions)
    for item, axis in zip(items, panels, strict=False):
        findings = results[item["image"]]["findings"]
        largest = max(item["boxes"], key=lambda box: sum(box[3:]))
        boxes = [(box, NODULE) for box in item["boxes"]]
        boxes += [(finding["box_ras_mm"], FOUND) for finding in findings]
        draw_axial_slice(axis, nib.load(item["image"]), largest[:3], boxes_mm=boxes)
        nodules = len(item["boxes"])
        text = f"{item['patient_id']}: {nodules} nodule{'s' * (nodules > 1)}, {len(findings)} found"
        axis.set_title(text, color="white", fontsize=10)
    for axis in panels:
        axis.set_axis_off()
    figure.tight_layout(pad=0.6)
    figure.savefig(path, dpi=80, facecolor="black")
