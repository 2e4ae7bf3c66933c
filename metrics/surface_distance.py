"""How far apart two outlines of a nodule are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance

from metrics.check_scans import BoolArray


class SurfaceDistance(NamedTuple):
    """Attributes:
    mean_mm: average symmetric surface distance, over the voxels of both surfaces.
    hausdorff_95_mm: the larger of the two directions' 95th percentiles.
    """

    mean_mm: float
    hausdorff_95_mm: float


def surface_distance(
    first: BoolArray, second: BoolArray, spacing_mm: Sequence[float]
) -> SurfaceDistance:
    """Distances between the surfaces of two masks ``(H, W)`` or ``(H, W, D)``, as MONAI has them.

    A surface is the voxels of a mask that have a neighbour outside it; distances are between
    voxel centres. The array's border counts as outside. MONAI's two metrics would each look for
    the same surfaces and neighbours.

    Raises:
        ValueError: a mask is empty.
    """
    if not (first.any() and second.any()):
        raise ValueError("both masks must hold a voxel to have a surface, got an empty mask")
    one, other = get_mask_edges(first, second, crop=False)
    there = get_surface_distance(one, other, spacing=spacing_mm)
    back = get_surface_distance(other, one, spacing=spacing_mm)
    return SurfaceDistance(
        float(np.concatenate((there, back)).mean()),
        float(max(np.percentile(way, 95) for way in (there, back))),
    )
