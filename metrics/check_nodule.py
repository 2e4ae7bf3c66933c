"""The rules that a scan and its mask must keep before a nodule in it is measured."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import BoolArray

AIR_HU = -500.0


def checked_spacing_mm(spacing_mm: npt.ArrayLike) -> FloatArray:
    """``spacing_mm`` as three float64.

    Raises:
        ValueError: not three, or one that is not a finite number above 0.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(
            f"spacing_mm must be three finite numbers above 0, got {np.array2string(spacing)}"
        )
    return spacing


def checked_mask(mask: npt.ArrayLike) -> BoolArray:
    """``mask`` ``(H, W, D)`` as bool.

    Raises:
        ValueError: another number of axes, or a value other than 0 and 1.
    """
    array = np.asarray(mask)
    if array.ndim != 3:
        raise ValueError(f"mask must be (H, W, D), got shape {array.shape}")
    if array.dtype != bool:
        if array.size and not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"mask must hold 0 and 1 only, got {array.min()} to {array.max()}")
        array = array.view(bool) if array.dtype == np.uint8 else array == 1
    return array


def check_image(image_hu: npt.NDArray[np.generic], inside: BoolArray) -> None:
    """Raises a ValueError unless ``image_hu`` has the mask's shape and is finite in the mask."""
    if image_hu.shape != inside.shape:
        raise ValueError(f"image_hu must be {inside.shape} as the mask, got {image_hu.shape}")
    wrong = np.count_nonzero(~np.isfinite(image_hu[inside]))
    if wrong:
        raise ValueError(f"image_hu must be finite in the mask, got {wrong} voxels that are not")


def check_hu(image_hu: npt.NDArray[np.generic]) -> None:
    """Raises a ValueError unless a chest CT ``(H, W, D)`` holds air, which HU have below -500.

    Every fourth voxel is looked at, of which thousands are air.
    """
    low = float(np.nanmin(image_hu[::4, ::4, ::4])) if image_hu.size else math.nan
    if not low < AIR_HU:
        raise ValueError(
            f"image_hu must be HU, with air below {AIR_HU:g}, got a minimum of {low:g}"
        )
