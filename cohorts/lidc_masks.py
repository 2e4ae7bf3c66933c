"""What each of LIDC-IDRI's readers outlined, voxel by voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from cohorts.lidc_nodules import LidcNodule, LidcReading


def reader_masks(nodule: LidcNodule, *, outline_inside: bool = False) -> NDArray[np.bool_]:
    """One mask per reading, ``(readings, columns, rows, slices)`` of the scan.

    The grid is the bounding box of all outlines with one voxel of margin. LIDC's readers drew
    through the first pixels outside the nodule (Armato et al., Med Phys 38:915, 2011), which are
    left out, a hole's own too. One that encloses no pixel counts itself.

    Args:
        nodule: of :func:`cohorts.read_lidc_nodules`.
        outline_inside: count the outline's pixels as nodule, as many masks in circulation do.
    """
    contours = [contour for reading in nodule.readings for contour in reading.contours]
    points = np.concatenate([contour.points for contour in contours])
    first = points.min(axis=0) - 1
    columns, rows = (points.max(axis=0) - first + 2).tolist()
    z_mm = np.array([contour.z_mm for contour in contours])
    depth = round(np.ptp(z_mm) / nodule.spacing_mm[2]) + 3
    masks = np.zeros((len(nodule.readings), columns, rows, depth), dtype=bool)
    for mask, reading in zip(masks, nodule.readings, strict=True):
        _draw(mask, reading, first, (z_mm.min(), nodule.spacing_mm[2]), outline_inside)
    return masks


def _draw(
    mask: NDArray[np.bool_],
    reading: LidcReading,
    first: NDArray[np.int32],
    z_grid_mm: tuple[float, float],
    outline_inside: bool,
) -> None:
    low_mm, step_mm = z_grid_mm
    # Holes last, whatever the order in the file.
    for contour in sorted(reading.contours, key=lambda contour: not contour.inclusion):
        columns, rows = (contour.points - first).T
        level = mask[:, :, round((contour.z_mm - low_mm) / step_mm) + 1]
        filled = np.zeros(level.shape, dtype=bool)
        filled[polygon(columns, rows, level.shape)] = True
        filled[columns, rows] = contour.inclusion == outline_inside
        if not contour.inclusion:
            level &= ~filled
            continue
        if not filled.any():
            filled[columns, rows] = True
        level |= filled
