"""What a nodule weighs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metrics.check_nodule import check_image, checked_mask, checked_spacing_mm


def nodule_mass_mg(
    image_hu: npt.NDArray[np.generic], mask: npt.ArrayLike, spacing_mm: npt.ArrayLike
) -> float:
    """Mass in mg of the voxels of a mask (de Hoop et al., Radiology 255:199, 2010).

    Air weighs nothing and water 1 mg/mm3: a voxel's density is ``(HU + 1000) / 1000``. Below
    -1000 HU there is noise, which may weigh less than nothing: it is not cut, to keep the mean.

    Args:
        image_hu: ``(H, W, D)``.
        mask: ``(H, W, D)`` of 0 and 1; an empty one weighs 0.
        spacing_mm: per axis.

    Raises:
        ValueError: shapes that differ, values that are not finite, or a spacing of 0.
    """
    spacing, inside = checked_spacing_mm(spacing_mm), checked_mask(mask)
    check_image(image_hu, inside)
    density = image_hu[inside].astype(np.float64) / 1000 + 1
    return float(density.sum() * spacing.prod())
