"""Trachea and main bronchi of a coarse chest CT."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from transforms.coarse_ct import IN_SLICE

SEED_AREA_MM2 = (50.0, 700.0)
SEED_WIDTH_MM = 45.0
SEED_OFF_MIDLINE_MM = 40.0
FORK = 2.5
SHORTEST_MM = 30.0


def find_airway(
    enclosed_air: np.ndarray, spacing_mm: np.ndarray, midline_voxel: float
) -> np.ndarray:
    """Trachea and main bronchi, followed downwards slice by slice from a small round start.

    From one slice to the next the airway may grow by one voxel each way, and it ends where its area
    passes 2.5 times its median so far: at the fork, or where it would spill into a lung.

    Args:
        enclosed_air: bool ``(X, Y, Z)`` in RAS axes, air inside the body, voxels of 2 to 5 mm.
        spacing_mm: of the three axes.
        midline_voxel: the body's middle along X.

    Returns:
        Bool array of the same shape, empty when no airway is found.
    """
    labels, _ = ndimage.label(enclosed_air, IN_SLICE)
    boxes = ndimage.find_objects(labels)
    cell_mm2 = float(spacing_mm[0] * spacing_mm[1])
    shortest = int(np.ceil(SHORTEST_MM / spacing_mm[2]))
    # Labels rise with the position in memory, so the slice is asked of each; top first.
    by_height = sorted(range(len(boxes)), key=lambda index: -boxes[index][2].start)
    for index in by_height:
        box = boxes[index]
        width_mm = (box[0].stop - box[0].start) * spacing_mm[0]
        length_mm = (box[1].stop - box[1].start) * spacing_mm[1]
        middle = (box[0].start + box[0].stop - 1) / 2
        if max(width_mm, length_mm) > SEED_WIDTH_MM:
            continue
        if abs(middle - midline_voxel) * spacing_mm[0] > SEED_OFF_MIDLINE_MM:
            continue
        seed = labels[..., box[2].start] == index + 1
        if not SEED_AREA_MM2[0] <= seed.sum() * cell_mm2 <= SEED_AREA_MM2[1]:
            continue
        airway = _follow(enclosed_air, seed, box[2].start)
        if airway.any(axis=(0, 1)).sum() >= shortest:
            return airway
    return np.zeros_like(enclosed_air)


def _follow(enclosed_air: np.ndarray, seed: np.ndarray, top: int) -> np.ndarray:
    airway = np.zeros_like(enclosed_air)
    current = seed
    areas: list[int] = []
    for z in range(top, -1, -1):
        air = enclosed_air[..., z]
        grown = ndimage.binary_dilation(current) & air
        areas.append(int(grown.sum()))
        # Past the fork the two main bronchi open into the lungs.
        if areas[-1] == 0 or areas[-1] > FORK * np.median(areas):
            break
        airway[..., z] = current = grown
    return airway
