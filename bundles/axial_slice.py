"""An axial slice of a scan with boxes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from handlers.lps_planes import PLANE_VIEWS, LpsPlanes
from handlers.three_planes import LUNG_WINDOW_HU, OVERLAY_COLOURS

AXIAL = PLANE_VIEWS[0]
SHOWN_MULTIPLES = (10.0, 1000.0)  # of uniform attention, for every map alike
MARGIN_MM = 4.0  # so that the outline leaves the lesion visible


def draw_axial_slice(
    axis: Axes,
    scan: Any,
    centre_ras_mm: Sequence[float],
    *,
    boxes_mm: Sequence[tuple[Sequence[float], Mapping[str, Any]]],
    attention: np.ndarray | None = None,
) -> None:
    """Draws the slice through a point, right of the patient on the left, anterior on top.

    Args:
        axis: to draw in.
        scan: a nibabel image ``(H, W, D)`` in HU.
        centre_ras_mm: the point.
        boxes_mm: world boxes (RAS, cccwhd), each with the style of its outline; those that the
            slice does not cut are left out.
        attention: multiples of uniform attention on the scan's grid.
    """
    planes = LpsPlanes(scan.affine, scan.shape)
    size_mm = planes.size_mm
    extent = (0.0, size_mm[AXIAL.column], size_mm[AXIAL.row], 0.0)
    low_hu, high_hu = LUNG_WINDOW_HU
    centre_mm = _on_planes(planes, scan, centre_ras_mm)
    hu = planes.cut(np.asanyarray(scan.dataobj), AXIAL, centre_mm)
    axis.imshow(hu, cmap="gray", vmin=low_hu, vmax=high_hu, extent=extent)
    if attention is not None:
        shown = planes.cut(attention, AXIAL, centre_mm)
        shown = np.ma.masked_less(shown, SHOWN_MULTIPLES[0])
        scale = LogNorm(*SHOWN_MULTIPLES, clip=True)
        axis.imshow(shown, cmap=OVERLAY_COLOURS, norm=scale, alpha=0.6, extent=extent)
    for box, style in boxes_mm:
        if abs(box[2] - centre_ras_mm[2]) > box[5] / 2:
            continue
        middle = _on_planes(planes, scan, box[:3])
        width, height = (side + 2 * MARGIN_MM for side in box[3:5])
        corner = (middle[AXIAL.column] - width / 2, middle[AXIAL.row] - height / 2)
        axis.add_patch(Rectangle(corner, width, height, fill=False, **style))
    axis.set_axis_off()


def _on_planes(planes: LpsPlanes, scan: Any, point_ras_mm: Sequence[float]) -> np.ndarray:
    voxel = np.linalg.inv(scan.affine) @ [*point_ras_mm, 1]
    return planes.millimetres(voxel[:3] + 0.5)
