"""Emphysema of the phantoms: a sign of risk that has no single place."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from cohorts.phantom_grid import Array

# Destroyed lung lies below the threshold of -950 HU that readers and programs count.
EMPHYSEMA_HU = -975.0
MOST = 0.5
# Of the edge, in standard deviations of the noise that shapes it.
EDGE = 0.3


def emphysema_share(extent: float, flow: Array, mottle: Array) -> Array:
    """How far each voxel of the lungs is destroyed: small holes that gather in some regions.

    Args:
        extent: share of the lungs that is destroyed, 0 to below 1.
        flow: noise of unit variance over some cm, which says where the holes gather.
        mottle: noise of unit variance over some mm, which makes the holes.

    Returns:
        0 to 1, of the broadcast shape of both.
    """
    place = 0.6 * flow + 0.8 * mottle
    share: Array = np.clip((place - norm.isf(extent)) / EDGE + 0.5, 0, 1).astype(np.float32)
    return share


def draw_extent(mean: float, rng: np.random.Generator) -> float:
    """One patient's share of destroyed lung: exponential, at most a half.

    Of two groups with means in the ratio ``r`` this share alone tells a member of one from a member
    of the other with an AUROC of ``r / (1 + r)``, apart from the cut.
    """
    return round(min(float(rng.exponential(mean)), MOST), 4) if mean > 0 else 0.0
