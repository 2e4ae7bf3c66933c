"""A phantom's nodules: where they lie and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cohorts.lidc_nodules import LidcNodule
from cohorts.lidc_shape import LidcShape, lidc_shape
from cohorts.phantom_anatomy import ChestAnatomy
from cohorts.phantom_grid import Array, PhantomGrid
from cohorts.phantom_tubes import Tubes, draw_tubes
from cohorts.phantom_vessels import VesselTrees, lung_depth, sample_lung

SITES = ("parenchyma", "pleura", "vessel")
FINE_MM = 0.75
FINE_MASS_MM = 1.5
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class PlacedNodule:
    """A LIDC nodule in a phantom: RAS centre in mm, mirrored along some axes.

    ``enlarged`` is the factor on its lengths that makes it a mass, 1 for a nodule of LIDC's size.
    """

    nodule: LidcNodule
    shape: LidcShape
    centre_mm: NDArray[np.float64]
    mirrored: tuple[bool, bool, bool]
    side: str
    site: str
    enlarged: float = 1.0

    @property
    def kind(self) -> str:
        """Attenuation by the mean texture rating (1 ground-glass, 3 part-solid, 5 solid).

        Masses are solid whatever their rating.
        """
        texture = self.nodule.ratings["texture"]
        if texture >= 4 or self.enlarged > 1:
            return "solid"
        return "part-solid" if texture >= 2 else "ground-glass"


def place_nodule(
    nodule: LidcNodule,
    *,
    anatomy: ChestAnatomy,
    trees: VesselTrees,
    grid: PhantomGrid,
    others: list[PlacedNodule],
    rng: np.random.Generator,
) -> PlacedNodule:
    """Find room for a nodule inside a lung and the field of view, clear of the others.

    Raises ``ValueError`` if the field of view leaves no room.
    """
    shape = lidc_shape(nodule)
    mirrored = (bool(rng.integers(2)), bool(rng.integers(2)), bool(rng.integers(2)))
    radius = (3 * shape.volume_mm3 / (4 * np.pi)) ** (1 / 3)
    first_site = int(rng.choice(3, p=(0.5, 0.3, 0.2)))
    for attempt in range(60):
        site = SITES[first_site if attempt < 30 else 0]
        side = "left" if rng.integers(2) else "right"
        points = anatomy.scale * site_candidates(
            site, side, radius / anatomy.scale, anatomy, trees, rng
        )
        free = free_centres(points, shape, margin_mm=radius, grid=grid, others=others)
        if len(free):
            return PlacedNodule(nodule, shape, free[0], mirrored, side, site)
    raise ValueError(
        f"the field of view must show lung for a nodule of {2 * radius:.0f} mm, got none free"
    )


def free_centres(
    centres_mm: Array,
    shape: LidcShape,
    *,
    margin_mm: float | Array,
    grid: PhantomGrid,
    others: list[PlacedNodule],
) -> Array:
    """Those of the RAS points ``(N, 3)`` that lie ``margin_mm``, one number or one an axis, inside
    the field of view, and where a nodule of that shape touches none of the others."""
    low = np.array([grid.x_mm[-1], grid.y_mm[-1], grid.z_mm[0]]) + margin_mm
    high = np.array([grid.x_mm[0], grid.y_mm[0], grid.z_mm[-1]]) - margin_mm
    is_free = np.all((centres_mm > low) & (centres_mm < high), axis=1)
    for other in others:
        gap_mm = np.linalg.norm(centres_mm - other.centre_mm, axis=1)
        is_free &= gap_mm > max(other.shape.extent_mm) + max(shape.extent_mm)
    return centres_mm[is_free]


def nodule_distance(placed: PlacedNodule, x: Array, y: Array, z: Array) -> Array:
    """Signed distance in mm to the nodule's surface at broadcasting RAS coordinates."""
    steps = []
    for axis, (position, sign) in enumerate(((x, -1), (y, -1), (z, 1))):
        offset = (position - placed.centre_mm[axis]) * (sign / placed.shape.spacing_mm)
        middle = (placed.shape.distance_mm.shape[axis] - 1) / 2
        steps.append(middle + (-offset if placed.mirrored[axis] else offset))
    coordinates = np.stack(np.broadcast_arrays(*steps))
    found: Array = map_coordinates(
        placed.shape.distance_mm, coordinates, order=1, mode="nearest", output=np.float32
    )
    return found


def nodule_coverage(
    placed: PlacedNodule,
    anatomy: ChestAnatomy,
    grid: PhantomGrid,
    *,
    depth_mm: float = 0.0,
    blur_mm: float = 0.0,
) -> tuple[Box, Array]:
    """Box of voxels and the share of each that lies in the nodule and inside the lung.

    ``depth_mm`` takes the part that deep under the surface; ``blur_mm`` widens its edge.
    """
    reach = placed.shape.extent_mm + np.asarray(grid.spacing_mm)
    box = grid.box(placed.centre_mm - reach, placed.centre_mm + reach)
    fine_mm = FINE_MM if placed.enlarged == 1 else FINE_MASS_MM
    counts = [min(int(np.ceil(step / fine_mm)), 6) for step in grid.spacing_mm]
    axes = [
        (axis[:, None] + step * ((np.arange(count) + 0.5) / count - 0.5)).ravel()
        for axis, step, count in zip(
            (grid.x_mm[box[2]], grid.y_mm[box[1]], grid.z_mm[box[0]]),
            grid.spacing_mm,
            counts,
            strict=True,
        )
    ]
    x = axes[0].astype(np.float32)[None, None, :]
    y = axes[1].astype(np.float32)[None, :, None]
    z = axes[2].astype(np.float32)[:, None, None]
    width = max(step / count for step, count in zip(grid.spacing_mm, counts, strict=True))
    distance = nodule_distance(placed, x, y, z) + np.float32(depth_mm)
    share = np.clip(0.5 - distance / (width + blur_mm), 0, 1)
    scale = np.float32(anatomy.scale)
    lung = anatomy.lungs(x / scale, y / scale, z / scale)[0 if placed.side == "left" else 1]
    share *= np.clip(0.5 - lung * scale / width, 0, 1)
    fine = share.reshape(
        len(axes[2]) // counts[2], counts[2], -1, counts[1], share.shape[2] // counts[0], counts[0]
    )
    return box, fine.mean(axis=(1, 3, 5))


def draw_nodule(
    hu: Array,
    grid: PhantomGrid,
    *,
    placed: PlacedNodule,
    anatomy: ChestAnatomy,
    rng: np.random.Generator,
) -> None:
    """Paint a nodule by its ratings: texture, margin, calcification and spiculation."""
    ratings = placed.nodule.ratings
    blur = 0.6 * (5 - ratings["margin"])
    box, share = nodule_coverage(placed, anatomy, grid, blur_mm=blur)
    patch = hu[box]
    tissue = 32 + rng.normal(0, 12) + 0.25 * anatomy.contrast_hu
    if ratings["spiculation"] >= 2.5 and placed.kind != "ground-glass":
        _draw_spicules(hu, grid, placed, tissue, rng)
    if placed.kind == "solid":
        patch += share * (np.maximum(tissue, patch) - patch)
    else:
        glass = rng.uniform(-650, -480)
        # Vessels stay visible through ground glass.
        patch += share * np.maximum(glass - patch, 0)
    radius = (3 * placed.shape.volume_mm3 / (4 * np.pi)) ** (1 / 3)
    if placed.kind == "part-solid":
        _, core = nodule_coverage(placed, anatomy, grid, depth_mm=0.4 * radius, blur_mm=1.0)
        patch += core * np.maximum(tissue - 20 - patch, 0)
    if ratings["calcification"] < 5.5 and placed.kind == "solid":
        _, core = nodule_coverage(placed, anatomy, grid, depth_mm=0.35 * radius, blur_mm=1.0)
        patch += core * np.maximum(rng.uniform(250, 550) - patch, 0)


def site_candidates(
    site: str,
    side: str,
    radius: float,
    anatomy: ChestAnatomy,
    trees: VesselTrees,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """``(N, 3)`` centres, in the anatomy's units, for a nodule of this radius at a site."""
    if site == "parenchyma":
        return sample_lung(anatomy, side, 16, rng, depth_mm=min(radius + 4, 28.0))
    if site == "pleura":
        points = sample_lung(anatomy, side, 300, rng, depth_mm=0.55 * radius)
        x, y, z = points.astype(np.float32).T
        # The costal pleura, not the mediastinum or the diaphragm.
        costal = anatomy.cage(x, y, z) > -(0.9 * radius + 2)
        return points[costal]
    tubes = trees.lung_vessels
    wide = (tubes.start_radii > 0.9) & (tubes.start_radii < 2.6)
    wide &= (tubes.starts[:, 0] < 0) == (side == "left")
    chosen = rng.choice(np.flatnonzero(wide), 40)
    direction = rng.standard_normal((40, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = tubes.starts[chosen] + 0.7 * radius * direction
    return points[lung_depth(anatomy, points, side) > radius + 2]


def _draw_spicules(
    hu: Array, grid: PhantomGrid, placed: PlacedNodule, tissue: float, rng: np.random.Generator
) -> None:
    count = round(4 * placed.nodule.ratings["spiculation"])
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    steps = np.arange(0.0, float(max(placed.shape.extent_mm)), 0.5)
    line = placed.centre_mm + steps[:, None, None] * direction
    inside = nodule_distance(placed, line[..., 0], line[..., 1], line[..., 2]) < 0
    surface = steps[np.where(inside, np.arange(len(steps))[:, None], 0).max(axis=0)]
    # A mass keeps the spicules of its nodule: longer ones would leave the chest.
    length = surface / placed.enlarged * rng.uniform(0.35, 0.9, count) + 2
    starts = placed.centre_mm + direction * 0.8 * surface[:, None]
    ends = placed.centre_mm + direction * (surface + length)[:, None]
    spikes = Tubes(starts, ends, np.full(count, 1.1), np.full(count, 0.35))
    reach = placed.shape.extent_mm * 2 + 4
    box = grid.box(placed.centre_mm - reach, placed.centre_mm + reach)
    near = PhantomGrid(grid.x_mm[box[2]], grid.y_mm[box[1]], grid.z_mm[box[0]], grid.spacing_mm)
    share = np.zeros(near.shape, dtype=np.float32)
    draw_tubes(share, near, spikes)
    hu[box] += share * np.maximum(tissue - 60 - hu[box], 0)
