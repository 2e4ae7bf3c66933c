"""A phantom's vessels and airways: trees in the lungs and the trunks between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom_anatomy import ChestAnatomy
from cohorts.phantom_tubes import Tubes, join_tubes, polyline

LEAVES = 700
LEAF_RADIUS_MM = 0.6
# Radii at a fork follow r^p = r1^p + r2^p (Murray, doi:10.1073/pnas.12.3.207, with p = 3).
MURRAY_EXPONENT = 2.8

Points = NDArray[np.float64]


@dataclass(frozen=True)
class VesselTrees:
    """Tubes in RAS mm: vessels inside the lungs, airways, and the vessels between the lungs."""

    lung_vessels: Tubes
    airways: Tubes
    great_vessels: Tubes
    oesophagus: Tubes


def vessel_trees(anatomy: ChestAnatomy, rng: np.random.Generator) -> VesselTrees:
    """Arteries with their bronchi and veins that fill both lungs, tapering to the pleura."""
    vessels: list[Tubes] = []
    airways: list[Tubes] = [_trachea()]
    for side, sign in (("left", -1.0), ("right", 1.0)):
        hilum = np.array([sign * 36.0, -6.0, 24.0 if side == "left" else 16.0])
        tree, sizes = grow_tree(hilum, sample_lung(anatomy, side, LEAVES, rng), rng)
        vessels.append(tree)
        airways.append(_bronchi(tree, sizes, sign))
        bronchus = hilum + np.array([-sign * 2.0, -9.0, -2.0])
        carina = np.array([0.0, -20.0, 32.0])
        airways.append(polyline(np.vstack([carina, (carina + bronchus) / 2, bronchus]), 6.2))
        for root in ((sign * 30, 4, 2), (sign * 30, -8, -8)):
            leaves = sample_lung(anatomy, side, LEAVES // 2, rng)
            upper = leaves[:, 2] > np.median(leaves[:, 2])
            half = leaves[upper if root[1] > 0 else ~upper]
            vessels.append(grow_tree(np.array(root, dtype=float), half, rng)[0])
    return VesselTrees(
        join_tubes(vessels), join_tubes(airways), _great_vessels(anatomy), _oesophagus(anatomy)
    )


def sample_lung(
    anatomy: ChestAnatomy, side: str, count: int, rng: np.random.Generator, depth_mm: float = 4.0
) -> Points:
    """``(count, 3)`` points of one lung at least ``depth_mm`` under its surface."""
    found: list[Points] = []
    while sum(map(len, found)) < count:
        low, high = np.array([8.0, -105, -140]), np.array([145.0, 100, 128])
        points = rng.uniform(low, high, size=(4 * count, 3))
        if side == "left":
            points[:, 0] *= -1
        found.append(points[lung_depth(anatomy, points, side) > depth_mm])
    return np.concatenate(found)[:count]


def lung_depth(anatomy: ChestAnatomy, points: Points, side: str) -> NDArray[np.float32]:
    """Depth in mm of ``(N, 3)`` points under one lung's surface, negative outside."""
    x, y, z = points.astype(np.float32).T
    return -anatomy.lungs(x, y, z)[0 if side == "left" else 1]


def grow_tree(
    root: Points, leaves: Points, rng: np.random.Generator
) -> tuple[Tubes, NDArray[np.int64]]:
    """Tree from a root to every leaf and the leaves behind each of its tubes.

    Each fork stands part of the way to the middle of its leaves and parts them across their
    longest axis, so branches fill the lung and never leave the leaves' hull by much.
    """
    tubes: list[tuple[Points, Points, int]] = []
    pending = [(root, leaves)]
    while pending:
        start, group = pending.pop()
        middle = group.mean(axis=0)
        count = len(group)
        reach = 1.0 if count == 1 else rng.uniform(0.35, 0.55)
        end = start + reach * (middle - start)
        bend = (start + end) / 2 + rng.normal(0, 0.06, 3) * np.linalg.norm(end - start)
        tubes += [(start, bend, count), (bend, end, count)]
        if count == 1:
            continue
        spread = (group - middle).T @ (group - middle)
        longest = np.linalg.eigh(spread)[1][:, -1]
        order = np.argsort((group - middle) @ longest, kind="stable")
        cut = min(max(round(count * rng.uniform(0.3, 0.7)), 1), count - 1)
        pending += [(end, group[order[:cut]]), (end, group[order[cut:]])]
    sizes = np.array([count for _, _, count in tubes])
    radii = LEAF_RADIUS_MM * sizes ** (1 / MURRAY_EXPONENT)
    starts = np.array([start for start, _, _ in tubes])
    ends = np.array([end for _, end, _ in tubes])
    return Tubes(starts, ends, radii, radii * 0.93), sizes


def _bronchi(arteries: Tubes, sizes: NDArray[np.int64], sign: float) -> Tubes:
    """Airways beside the arteries down to the small bronchi, a little narrower than they."""
    keep = sizes >= 10
    starts, ends = arteries.starts[keep], arteries.ends[keep]
    start_radii = 0.62 * arteries.start_radii[keep]
    end_radii = 0.62 * arteries.end_radii[keep]
    aside = np.array([-sign * 0.35, -0.9, -0.25])
    shift = 2.1 * arteries.start_radii[keep][:, None]
    return Tubes(starts + aside * shift, ends + aside * shift, start_radii, end_radii)


def _trachea() -> Tubes:
    return polyline([(1, -2, 190), (1, -4, 120), (1, -10, 80), (0, -17, 45), (0, -20, 32)], 8.8)


def _oesophagus(anatomy: ChestAnatomy) -> Tubes:
    z = np.linspace(150, -120, 12)
    y = anatomy.spine_y(z.astype(np.float32)) + 26
    x = np.interp(z, [-120, -60, 150], [-22.0, -8.0, -4.0])
    return polyline(np.column_stack([x, y, z]), 7.0)


def _great_vessels(anatomy: ChestAnatomy) -> Tubes:
    arch = anatomy.arch_z
    descent = np.linspace(arch - 12, -160, 10)
    behind = anatomy.spine_y(descent.astype(np.float32)) + 12
    ascending = [(0, 26, -20), (12, 30, 5), (14, 27, arch - 22), (6, 20, arch - 5)]
    aorta = polyline(
        [
            *ascending,
            (-8, 4, arch),
            (-20, -16, arch - 1),
            (-24, float(behind[0]), arch - 12),
        ],
        [15, 15.5, 15.5, 14, 13, 12.5, 12],
    )
    parts = [
        aorta,
        polyline(np.column_stack([np.full(10, -24.0), behind, descent]), 11.5),
        # Pulmonary trunk with its two arteries, upper and lower cava, atrium and arch branches.
        polyline([(-18, 40, -15), (-20, 34, 8), (-22, 16, 22)], [14, 13.5, 12]),
        polyline([(-22, 16, 22), (-36, -6, 24)], [11, 8]),
        polyline([(-20, 14, 20), (2, 0, 18), (22, -4, 18), (38, -6, 16)], [11, 10, 9.5, 8]),
        polyline([(24, 14, 95), (24, 14, 40), (24, 12, -20)], [8, 9, 10]),
        polyline([(24, 2, -45), (22, -6, -130)], 12.0),
        polyline([(-24, 26, 105), (0, 28, 88), (24, 14, 78)], 6.5),
        polyline([(4, 14, arch + 4), (16, 10, 105), (22, 6, 150)], 5.5),
        polyline([(-8, 4, arch + 6), (-16, -2, 150)], 4.0),
        polyline([(-16, -8, arch + 6), (-30, -12, 100), (-60, 0, 122)], 4.5),
        polyline([(-26, -6, 0), (0, -12, -4), (28, -6, 0)], [10, 17, 10]),
    ]
    return join_tubes(parts)
