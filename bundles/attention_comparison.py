"""The same scans under several trainings, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure

from bundles.axial_slice import draw_axial_slice
from bundles.predicted_scans import predicted_scans

CANCER = {"edgecolor": "lime"}


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
    results = {title: predicted_scans(folder) for title, folder in predictions.items()}
    for row, item in zip(axes, items, strict=True):
        scan: Any = nib.load(item["image"])
        boxes_mm = _cancer_boxes_mm(item)
        cancer = {"centre_ras_mm": boxes_mm[0][:3], "boxes_mm": [(boxes_mm[0], CANCER)]}
        draw_axial_slice(row[0], scan, **cancer)
        row[0].set_title(f"{item['patient_id']}: cancer in the box", color="white", fontsize=10)
        for axis, (title, folder) in zip(row[1:], predictions.items(), strict=True):
            result = results[title][item["image"]]
            volume: Any = nib.load(folder / result["attention"])
            attention = volume.get_fdata(dtype=np.float32)
            draw_axial_slice(axis, scan, **cancer, attention=attention)
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
