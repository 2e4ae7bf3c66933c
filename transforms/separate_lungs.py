"""Two touching lungs, parted."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

LEFT, RIGHT = 1, 2
MOST_EROSIONS = 5
SMALLEST_SHARE = 0.1
LATERAL_MM = 30.0


def separate_lungs(
    lung: np.ndarray, hu: np.ndarray, spacing_mm: np.ndarray, midline_voxel: float
) -> np.ndarray:
    """Parts one connected piece of lung into left (1) and right (2).

    A piece on one side of the midline is one lung. One on both sides is two that touch, mostly at
    the anterior junction: it is eroded until it falls apart, and the two cores grow back over the
    HU, so that they meet at the brighter line between them.

    Args:
        lung: bool ``(X, Y, Z)`` in RAS axes, so that low X is the patient's left.
        hu: of the same shape.
        spacing_mm: of the three axes.
        midline_voxel: the body's middle along X.
    """
    labels = np.zeros(lung.shape, np.uint8)
    box = ndimage.find_objects(lung.view(np.uint8))[0]
    # Empty rims let the erosion below see the piece's outside where it fills its box.
    piece = np.pad(lung[box], 1)
    off_midline_mm = (np.arange(box[0].start - 1, box[0].stop + 1) - midline_voxel) * spacing_mm[0]
    columns = piece.sum(axis=(1, 2))
    left_share = columns[off_midline_mm < 0].sum() / columns.sum()
    if min(left_share, 1 - left_share) < SMALLEST_SHARE:
        labels[box][lung[box]] = LEFT if left_share > 0.5 else RIGHT
        return labels
    cores = _cores_by_erosion(piece, off_midline_mm)
    smooth = ndimage.gaussian_filter(np.pad(hu[box], 1, mode="edge"), 1.0)
    labels[box] = watershed(smooth, cores, mask=piece)[1:-1, 1:-1, 1:-1]
    return labels


def _cores_by_erosion(piece: np.ndarray, off_midline_mm: np.ndarray) -> np.ndarray:
    """Two cores on either side of the midline; failing that, what lies well aside of it."""
    eroded = piece
    for _ in range(MOST_EROSIONS):
        eroded = ndimage.binary_erosion(eroded)
        parts, count = ndimage.label(eroded)
        if count < 2:
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        pair = np.argsort(sizes)[:-3:-1]
        if sizes[pair[1]] < SMALLEST_SHARE * sizes.sum():
            continue
        middles_mm = [off_midline_mm[np.nonzero(parts == part)[0]].mean() for part in pair]
        if middles_mm[0] * middles_mm[1] < 0:
            left, right = pair if middles_mm[0] < 0 else pair[::-1]
            return np.where(parts == left, LEFT, np.where(parts == right, RIGHT, 0))
    aside = np.where(off_midline_mm < -LATERAL_MM, LEFT, 0)
    aside = np.where(off_midline_mm > LATERAL_MM, RIGHT, aside)
    return piece * aside[:, None, None]
