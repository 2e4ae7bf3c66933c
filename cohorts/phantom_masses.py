"""Masses of the phantoms: malignant nodules enlarged as far as their lung has room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom_anatomy import ChestAnatomy
from cohorts.phantom_grid import PhantomGrid
from cohorts.phantom_nodules import PlacedNodule, free_centres, site_candidates
from cohorts.phantom_vessels import VesselTrees, lung_depth

# Above 30 mm the Fleischner glossary (doi:10.1148/radiol.2462070712) speaks of a mass.
MASS_DIAMETERS_MM = (30.0, 75.0)
# Of a mass's volume that must lie in its lung; pleura and mediastinum cut off the rest.
SMALLEST_SHARE = 0.75
SHRINK = 0.92
ATTEMPTS = 8
TESTED_CENTRES = 24
TESTED_POINTS = 400


def draw_mass(fraction: float, rng: np.random.Generator) -> float | None:
    """The diameter in mm that a nodule is enlarged to, log-uniform, or None to leave it.

    Two numbers are taken either way, so that a larger fraction adds masses to those there.
    """
    chance, place = rng.random(2).tolist()
    low, high = MASS_DIAMETERS_MM
    return round(low * (high / low) ** place, 3) if chance < fraction else None


def enlarge_nodule(
    placed: PlacedNodule,
    diameter_mm: float,
    *,
    anatomy: ChestAnatomy,
    trees: VesselTrees,
    grid: PhantomGrid,
    others: list[PlacedNodule],
    rng: np.random.Generator,
) -> PlacedNodule:
    """A mass of this diameter in place of a nodule: in a lung, free or against its borders.

    It may lie elsewhere than the nodule. Where no lung has room for it, clear of the others and
    within the field of view, it shrinks until one has; a nodule with no room to grow, or as large
    already, is returned as it is.
    """
    own_mm = placed.shape.diameter_mm
    while diameter_mm > own_mm:
        factor = diameter_mm / own_mm
        mass = replace(placed, shape=placed.shape.enlarged(factor), enlarged=factor)
        found = _place(
            mass, diameter_mm / 2, anatomy=anatomy, trees=trees, grid=grid, others=others, rng=rng
        )
        if found is not None:
            return found
        diameter_mm *= SHRINK
    return placed


def _place(
    mass: PlacedNodule,
    radius_mm: float,
    *,
    anatomy: ChestAnatomy,
    trees: VesselTrees,
    grid: PhantomGrid,
    others: list[PlacedNodule],
    rng: np.random.Generator,
) -> PlacedNodule | None:
    inner = _inner_points_mm(mass)
    for _ in range(ATTEMPTS):
        site = "pleura" if rng.integers(2) else "parenchyma"
        side = "left" if rng.integers(2) else "right"
        centres = anatomy.scale * site_candidates(
            site, side, radius_mm / anatomy.scale, anatomy, trees, rng
        )
        extent_mm = mass.shape.extent_mm
        free = free_centres(centres, mass.shape, margin_mm=extent_mm, grid=grid, others=others)
        tested = free[:TESTED_CENTRES]
        points = (tested[:, None] + inner).reshape(-1, 3) / anatomy.scale
        inside = lung_depth(anatomy, points, side) > 0
        share = inside.reshape(len(tested), len(inner)).mean(axis=1)
        roomy = np.flatnonzero(share >= SMALLEST_SHARE)
        if len(roomy):
            return replace(mass, centre_mm=tested[roomy[0]], side=side, site=site)
    return None


def _inner_points_mm(placed: PlacedNodule) -> NDArray[np.float64]:
    """``(N, 3)`` RAS offsets from the centre, spread evenly over the inside."""
    cells = np.argwhere(placed.shape.distance_mm < 0)
    cells = cells[:: max(len(cells) // TESTED_POINTS, 1)]
    middle = (np.asarray(placed.shape.distance_mm.shape) - 1) / 2
    # The shape's axes run left, posterior and superior.
    sign = np.array([-1, -1, 1]) * np.where(placed.mirrored, -1, 1)
    offsets: NDArray[np.float64] = (cells - middle) * placed.shape.spacing_mm * sign
    return offsets
