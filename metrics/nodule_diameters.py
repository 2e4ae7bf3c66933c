"""The diameters that a reader would draw in an axial slice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from metrics.bootstrap_interval import FloatArray
from metrics.check_nodule import checked_mask
from metrics.check_scans import BoolArray

_SAME_MM = 1e-6


class NoduleDiameters(NamedTuple):
    """Attributes:
    longest_mm: longest diameter in any axial slice (RECIST 1.1).
    perpendicular_mm: longest diameter at a right angle to it in the same slice.
    slice_index: of that slice along the array's axial axis.
    """

    longest_mm: float
    perpendicular_mm: float
    slice_index: int

    @property
    def mean_mm(self) -> float:
        """Mean of the two, the size in Lung-RADS and Fleischner's guidelines."""
        return (self.longest_mm + self.perpendicular_mm) / 2


def nodule_diameters(mask: npt.ArrayLike, affine: npt.ArrayLike) -> NoduleDiameters:
    """Longest axial diameter of a nodule and its perpendicular (RECIST 1.1, Eur J Cancer 45:228).

    Axial slices lie across the array axis that runs closest to the patient's superior axis. A
    diameter ends on the middles of voxel edges: a row of n voxels is n spacings long. As the
    longest of many it comes out long: by 0.5 to 0.8 pixels on digital discs of 4 to 20 mm in
    pixels of 0.7 mm. It may cross a notch, as a reader's calliper does. Of equally long diameters
    the one with the longest perpendicular counts.

    Args:
        mask: ``(H, W, D)`` of 0 and 1.
        affine: ``(4, 4)``, voxels to RAS mm.

    Raises:
        ValueError: an empty mask, or an affine that is not finite or has an axis without length.
    """
    inside = checked_mask(mask)
    steps_mm = _steps_mm(affine)
    if not inside.any():
        raise ValueError("mask must hold a nodule, got an empty mask")
    axial = int(np.argmax(np.abs(steps_mm[2]) / np.linalg.norm(steps_mm, axis=0)))
    plane = np.delete(steps_mm, axial, axis=1)
    slices = np.moveaxis(inside, axial, 0)
    areas = np.count_nonzero(slices, axis=(1, 2))
    best = NoduleDiameters(0.0, 0.0, 0)
    for index in np.argsort(-areas, kind="stable")[: np.count_nonzero(areas)].tolist():
        points = _edge_points_mm(slices[index], plane)
        # Few slices are wide enough to compete with the largest.
        if np.hypot(*np.ptp(points, axis=0)) < best.longest_mm - _SAME_MM:
            continue
        found = NoduleDiameters(*_diameters_mm(points), index)
        if _rounded(found) > _rounded(best):
            best = found
    return best


def _rounded(diameters: NoduleDiameters) -> tuple[int, int]:
    return round(diameters.longest_mm / _SAME_MM), round(diameters.perpendicular_mm / _SAME_MM)


def _steps_mm(affine: npt.ArrayLike) -> FloatArray:
    """``(3, 3)``, one step along each array axis per column."""
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f"affine must be (4, 4) of finite numbers, got {matrix.tolist()}")
    steps: FloatArray = matrix[:3, :3]
    if abs(np.linalg.det(steps)) < 1e-9:
        raise ValueError(
            "affine must have three axes of a length above 0 that span space, "
            f"got spacing {np.linalg.norm(steps, axis=0).tolist()}"
        )
    return steps


def _edge_points_mm(pixels: BoolArray, plane: FloatArray) -> FloatArray:
    """``(N, 2)``, the middles of the edges of each row's first and last pixel, in the plane.

    Those between lie in the hull of these. ``plane`` ``(3, 2)`` is the steps along rows, columns.
    """
    rows = np.flatnonzero(pixels.any(axis=1))
    first = pixels[rows].argmax(axis=1)
    last = pixels.shape[1] - 1 - pixels[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.column_stack([rows, first]), np.column_stack([rows, last])])
    half_steps = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
    points = (ends[:, None] + half_steps).reshape(-1, 2)
    # The plane's own axes in mm, at a right angle to each other also where the scan is sheared.
    along = plane[:, 0] / np.linalg.norm(plane[:, 0])
    across = plane[:, 1] - (plane[:, 1] @ along) * along
    across /= np.linalg.norm(across)
    return points @ plane.T @ np.column_stack([along, across])


def _diameters_mm(points_mm: FloatArray) -> tuple[float, float]:
    """Longest diameter of a slice's points and the longest perpendicular to it."""
    hull = points_mm[ConvexHull(points_mm).vertices]
    lengths = cdist(hull, hull)
    longest = float(lengths.max())
    ends = np.argwhere(np.triu(lengths >= longest - _SAME_MM, 1))
    return longest, max(_longest_chord(hull, hull[j] - hull[i]) for i, j in ends)


def _longest_chord(hull: FloatArray, normal: FloatArray) -> float:
    """Longest chord of a convex polygon at a right angle to ``normal``.

    Between two corners the chord's length changes evenly, so that the longest meets a corner.
    """
    unit = normal / np.linalg.norm(normal)
    height = hull @ unit
    side = hull @ np.array([-unit[1], unit[0]])
    # From the lowest corner both chains rise to the highest one.
    order = np.roll(np.arange(len(hull)), -int(np.argmin(height)))
    top = int(np.argmax(height[order]))
    right, left = order[: top + 1], np.append(order[top:], order[0])[::-1]
    widths = np.interp(height, height[right], side[right]) - np.interp(
        height, height[left], side[left]
    )
    return float(np.abs(widths).max())
