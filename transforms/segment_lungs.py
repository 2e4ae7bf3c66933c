"""Left and right lung from HU."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage

from transforms.coarse_ct import coarse_ct
from transforms.find_airway import find_airway
from transforms.separate_lungs import LEFT, RIGHT, separate_lungs

SMALLEST_LUNG_ML = 50.0
SMALLEST_SHARE = 0.03
GAS_HU, GAS_NOISE_HU = -940.0, 45.0
CLOSING_MM = 15.0


def segment_lungs(ct: MetaTensor) -> MetaTensor:
    """Left and right lung of a chest CT from its HU, on a grid of about 4 mm.

    Air that the body encloses in an axial slice, without trachea, main bronchi and bowel gas;
    lungs that touch are parted; vessels, nodules and notches up to about 30 mm wide, as nodules at
    the pleura leave, are closed. Needs nothing of the orientation but the affine.

    Args:
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm.

    Returns:
        uint8 ``(1, h, w, d)`` labels, 1 the patient's left and 2 the right lung, 0 elsewhere, with
        the affine of the coarse grid (:func:`feature_affine`). All zero where no lung is found.

    Raises:
        ScanError: another shape.
    """
    coarse = coarse_ct(ct)
    airway = find_airway(coarse.enclosed_air, coarse.spacing_mm, coarse.midline_voxel)
    lungs = np.zeros(coarse.hu.shape, np.uint8)
    voxel_ml = float(coarse.spacing_mm.prod()) / 1000
    for piece in _lung_pieces(coarse.enclosed_air & ~airway, coarse.hu, voxel_ml):
        lungs += separate_lungs(piece, coarse.hu, coarse.spacing_mm, coarse.midline_voxel)
    other_air = airway | (coarse.enclosed_air & (lungs == 0))
    return coarse.in_scan_axes(_close(lungs, other_air, coarse.spacing_mm), ct)


def _lung_pieces(air: np.ndarray, hu: np.ndarray, voxel_ml: float) -> list[np.ndarray]:
    """Connected pieces that are large enough and are lung, not gas."""
    labels, _ = ndimage.label(air)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    smallest = max(SMALLEST_LUNG_ML / voxel_ml, SMALLEST_SHARE * sizes.max())
    pieces = (labels == label for label in np.flatnonzero(sizes >= smallest))
    return [piece for piece in pieces if not _is_gas(piece, hu)]


def _is_gas(piece: np.ndarray, hu: np.ndarray) -> bool:
    """Whether it is pure, even air inside, as in bowel; a lung holds vessels."""
    inside = hu[ndimage.binary_erosion(piece)]
    return inside.size == 0 or bool(np.median(inside) < GAS_HU and inside.std() < GAS_NOISE_HU)


def _close(lungs: np.ndarray, other_air: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Fills vessels, nodules and notches of each lung, but no other air and not the other lung."""
    closed = lungs.copy()
    claims = np.zeros(lungs.shape, np.uint8)
    for label, box in zip((LEFT, RIGHT), ndimage.find_objects(lungs, RIGHT), strict=True):
        if box is None:
            continue
        filled = ndimage.binary_fill_holes(_ball_closing(lungs[box] == label, spacing_mm))
        gained = filled & (lungs[box] == 0) & ~other_air[box]
        closed[box][gained] = label
        claims[box] += gained
    closed[claims > 1] = 0
    return closed


def _ball_closing(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Morphological closing by a ball of ``CLOSING_MM``, with room for it around the array."""
    room = np.ceil(CLOSING_MM / spacing_mm).astype(int)
    padded = np.pad(mask, [(width, width) for width in room])
    reached = ndimage.distance_transform_edt(~padded, spacing_mm) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(reached, spacing_mm) > CLOSING_MM
    return closed[tuple(slice(width, -width) for width in room)]
