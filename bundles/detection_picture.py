"""What a detector found in a few scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from matplotlib.axes import Axes

from bundles.axial_slice import draw_axial_slice
from bundles.scan_panels import scan_panels

NODULE = {"edgecolor": "lime"}
FOUND = {"edgecolor": "magenta", "linestyle": "--"}


def draw_detections(items: Sequence[Mapping[str, Any]], predictions: Path, path: Path) -> None:
    """Draw the axial slice through each scan's largest nodule, with the boxes that lie in it.

    Args:
        items: datalist items with at least one box, paths absolute.
        predictions: folder with the ``predictions.json`` of these scans.
        path: the PNG.
    """
    scan_panels(items, predictions, path, _draw)


def _draw(axis: Axes, item: Mapping[str, Any], predicted: Mapping[str, Any]) -> int:
    findings = predicted["findings"]
    largest = max(item["boxes"], key=lambda box: sum(box[3:]))
    boxes = [(box, NODULE) for box in item["boxes"]]
    boxes += [(finding["box_ras_mm"], FOUND) for finding in findings]
    draw_axial_slice(axis, nib.load(item["image"]), largest[:3], boxes_mm=boxes)
    return len(findings)
