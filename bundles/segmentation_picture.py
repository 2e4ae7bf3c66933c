"""What a segmenter found in a few scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes

from bundles.axial_slice import AXIAL, draw_axial_slice
from bundles.scan_panels import scan_panels
from handlers.lps_planes import LpsPlanes
from handlers.middle_voxel import middle_voxel
from handlers.plane_panel import FOUND_LINE, TRUE_LINE, outline_mask

SHOWN_MM = 100.0  # round the nodule


def draw_segmentations(items: Sequence[Mapping[str, Any]], predictions: Path, path: Path) -> None:
    """Draw the axial slice round each scan's largest nodule, with true and found outlines.

    Args:
        items: datalist items with a mask and at least one nodule, paths absolute.
        predictions: folder with the ``predictions.json`` of these scans and their masks.
        path: the PNG.
    """

    def draw(axis: Axes, item: Mapping[str, Any], predicted: Mapping[str, Any]) -> int:
        _draw(axis, item, predictions / predicted["mask_file"])
        found: int = predicted["nodules_in_mask"]
        return found

    scan_panels(items, predictions, path, draw)


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
