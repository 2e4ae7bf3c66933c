"""What a segmentation of a nodule in the middle of a cube must beat: a threshold and a ball."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

AIR_BELOW_HU = -500
# Of five widths and three ways off the middle those with the best Dice on the 67 cubes.
GROWTH = 1.75
OFF_MIDDLE = 2


def central_ball(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The nodule in the middle of a cube ``(H, W, D)`` without any learning.

    What lies above half way from the lung's HU (median of what is below -500) to the middle's
    (median of 3 x 3 x 3 voxels) and is connected, by faces, to the middle or the nearest such
    voxel. Of it the largest ball round one of the voxels in the middle counts, grown to 1.75 of
    its radius, so that vessels and the chest wall are cut off.

    Raises:
        ValueError: nothing below -500 HU, or nothing above the threshold.
    """
    if not (hu < AIR_BELOW_HU).any():
        raise ValueError(f"a cube must hold lung below {AIR_BELOW_HU} HU, got {hu.min()} or more")
    middle = np.array(hu.shape) // 2
    nodule_hu = np.median(hu[_around(middle, 1)])
    threshold_hu = (np.median(hu[hu < AIR_BELOW_HU]) + nodule_hu) / 2
    components = cc3d.connected_components(hu > threshold_hu, connectivity=6)
    places = np.argwhere(components)
    if not len(places):
        raise ValueError(f"a cube must hold tissue above {threshold_hu:g} HU, got none")
    nearest = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    tissue = components == components[tuple(nearest)]
    depth = distance_transform_edt(tissue)
    near = depth[_around(middle, OFF_MIDDLE)]
    centre = nearest
    if near.any():
        centre = np.array(np.unravel_index(near.argmax(), near.shape)) + middle - OFF_MIDDLE
    radius = GROWTH * depth[tuple(centre)]
    off = np.indices(hu.shape) - centre.reshape(-1, 1, 1, 1)
    return (tissue & ((off**2).sum(axis=0) <= radius**2)).astype(np.uint8)


def _around(middle: NDArray[np.int64], reach: int) -> tuple[slice, ...]:
    return tuple(slice(index - reach, index + reach + 1) for index in middle.tolist())
