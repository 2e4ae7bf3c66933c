"""A phantom's bones on the outside of its rib cage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom_anatomy import ChestAnatomy
from cohorts.phantom_tubes import Tubes, join_tubes, polyline

RIB_PAIRS = 12
VERTEBRA_MM = 24.0
TOP_RIB_MM = 108.0


@dataclass(frozen=True)
class Skeleton:
    """Ribs, sternum, shoulder girdle and vertebral processes; the cartilage that joins them."""

    bones: Tubes
    cartilage: Tubes


def skeleton(anatomy: ChestAnatomy, rng: np.random.Generator) -> Skeleton:
    """Bones on the outside of the rib cage; the vertebral bodies belong to the soft tissue."""
    bones: list[Tubes] = []
    cartilage: list[Tubes] = []
    for sign in (-1.0, 1.0):
        for number in range(RIB_PAIRS):
            rib, joint = _rib(anatomy, number, sign, rng)
            bones.append(rib)
            if joint is not None:
                cartilage.append(joint)
        bones.append(_scapula(anatomy, sign))
        clavicle = [(16, 42, 96), (50, 44, 104), (95, 18, 118), (140, -8, 128)]
        bones.append(polyline([(sign * x, y, z) for x, y, z in clavicle], 5.5))
    for x in (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0):
        z = np.linspace(80 - 0.5 * abs(x), -72 + 2 * abs(x), 8)
        bones.append(polyline(_front_line(anatomy, x, z), 5.2))
    bones.append(_processes(anatomy))
    return Skeleton(join_tubes(bones), join_tubes(cartilage))


def _on_cage(
    anatomy: ChestAnatomy, angle: NDArray[np.float64], z: NDArray[np.float64], offset_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y at an angle from the back (0) over the right side to the front (pi)."""
    half_width, half_depth, centre = anatomy.cage_axes(z.astype(np.float32))
    sine, cosine = np.sin(angle), np.cos(angle)
    power = 2 / 2.2
    x = (half_width + offset_mm) * np.abs(sine) ** power
    y = centre - (half_depth + offset_mm) * np.sign(cosine) * np.abs(cosine) ** power
    return x, y


def _front_line(anatomy: ChestAnatomy, x: float, z: NDArray[np.float64]) -> NDArray[np.float64]:
    _, half_depth, centre = anatomy.cage_axes(z.astype(np.float32))
    return np.column_stack([np.full(len(z), x), centre + half_depth + 7, z])


def _rib(
    anatomy: ChestAnatomy, number: int, sign: float, rng: np.random.Generator
) -> tuple[Tubes, Tubes | None]:
    top = TOP_RIB_MM - number * (VERTEBRA_MM - 2) + rng.normal(0, 0.8)
    drop = (28, 45, 56, 62, 66, 68, 68, 66, 60, 52, 40, 22)[number]
    last = np.deg2rad((150, 152, 153, 153, 152, 150, 146, 140, 132, 122, 95, 65)[number])
    angle = np.linspace(np.deg2rad(14), last, 22)
    z = top - drop * np.sin(angle / 2) ** 1.6
    x, y = _on_cage(anatomy, angle, z, 6.0)
    line = np.column_stack([sign * x, y, z])
    head = anatomy.spine_y(np.array(top)) + 2
    neck = (sign * 19, float(head), top + 3)
    rib = polyline(np.vstack([neck, line]), np.r_[4.0, np.linspace(5.6, 5.0, 22)])
    if number >= 10:
        return rib, None
    end = line[-1]
    rise = max(0, number - 3) * 9.0
    breast = _front_line(anatomy, sign * 13, np.array([min(max(end[2] + rise, -74), 74)]))[0]
    middle = (end + breast) / 2 + np.array([0, 2.0, -0.2 * rise])
    return rib, polyline(np.vstack([end, middle, breast]), 5.0)


def _scapula(anatomy: ChestAnatomy, sign: float) -> Tubes:
    rows = []
    for z in np.arange(-14, 100, 3.0):
        share = (z + 14) / 114
        angle = np.deg2rad(np.linspace(46 - 8 * share, 52 + 32 * share, 7))
        x, y = _on_cage(anatomy, angle, np.full(7, min(z, 40.0)), 17.0)
        radius = np.r_[np.full(5, 2.0), 2.5, 3.5 + 3 * share]
        rows.append(polyline(np.column_stack([sign * x, y - 2, np.full(7, z)]), radius))
    return join_tubes(rows)


def _processes(anatomy: ChestAnatomy) -> Tubes:
    parts = []
    for number in range(RIB_PAIRS + 1):
        z = TOP_RIB_MM - number * (VERTEBRA_MM - 2)
        y = float(anatomy.spine_y(np.array(z)))
        parts.append(polyline([(0, y - 35, z), (0, y - 44, z - 10), (0, y - 54, z - 20)], 3.2))
        for sign in (-1, 1):
            parts.append(polyline([(sign * 10, y - 12, z), (sign * 11, y - 30, z)], 3.5))
            parts.append(polyline([(sign * 11, y - 24, z), (sign * 33, y - 29, z + 2)], 4.0))
            parts.append(polyline([(sign * 11, y - 28, z), (0, y - 36, z - 3)], 3.0))
    return join_tubes(parts)
