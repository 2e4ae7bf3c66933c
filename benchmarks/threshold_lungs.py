"""Lungs by a threshold at the scan's own resolution, as tutorials of scikit-image find them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from skimage.measure import label
from skimage.segmentation import clear_border

from transforms.coarse_ct import AIR_LIMIT_HU

REGIONS = 2


def threshold_lungs(ct: MetaTensor) -> MetaTensor:
    """The two largest regions of air that do not touch the border of their axial slice.

    The sides are not told apart: lungs and airways mostly are one region.

    Args:
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm.

    Returns:
        uint8 mask of the scan turned to RAS axes.
    """
    turned: Any = Orientation(axcodes="RAS", labels=None)(ct)
    air = turned[0].numpy() < AIR_LIMIT_HU
    for z in range(air.shape[2]):
        air[..., z] = clear_border(air[..., z])
    regions = label(air)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    largest = np.zeros(len(sizes), np.uint8)
    largest[np.argsort(sizes)[-REGIONS:]] = 1
    largest[sizes == 0] = 0
    return MetaTensor(torch.from_numpy(largest[regions])[None], turned.affine)
