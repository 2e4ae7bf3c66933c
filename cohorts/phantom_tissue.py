"""A phantom's tissues in HU: all but its tubes and nodules."""

from __future__ import annotations

import numpy as np

from cohorts.phantom_anatomy import ChestAnatomy, smooth_max
from cohorts.phantom_emphysema import EMPHYSEMA_HU, emphysema_share
from cohorts.phantom_grid import Array, PhantomGrid
from cohorts.phantom_skeleton import TOP_RIB_MM, VERTEBRA_MM

AIR_HU = -1000.0
SKIN_HU = 10.0
FAT_HU = -105.0
MUSCLE_HU = 55.0
BLOOD_HU = 42.0


def paint_tissue(
    anatomy: ChestAnatomy, grid: PhantomGrid, rng: np.random.Generator, *, emphysema: float
) -> tuple[Array, Array, Array]:
    """HU of everything but tubes and nodules, and the share of each voxel in either lung.

    ``emphysema`` is the share of the lungs that is destroyed. Float32 (z, y, x) on a grid in the
    anatomy's own units; painted some slices at a time, so that memory stays near the size of the
    three results.
    """
    hu = np.full(grid.shape, AIR_HU, dtype=np.float32)
    left = np.zeros(grid.shape, dtype=np.float32)
    right = np.zeros(grid.shape, dtype=np.float32)
    step = max(1, 1_500_000 // (grid.shape[1] * grid.shape[2]))
    flow_mm, streaks_mm, mottle_mm = (SmoothNoise(rng, size) for size in (38.0, 9.0, 4.5))
    for start in range(0, grid.shape[0], step):
        box = (slice(start, start + step), slice(None), slice(None))
        x, y, z = grid.axes(box)
        slab = hu[box]
        pen = _Pen(slab, grid.spacing_mm[0])
        streaks = streaks_mm(x, y, z)
        _paint_wall(anatomy, pen, streaks, x, y, z)
        _paint_abdomen(anatomy, pen, streaks, x, y, z)
        heart = anatomy.heart(x, y, z)
        pen.paint(heart, BLOOD_HU + 0.85 * anatomy.contrast_hu)
        if anatomy.contrast_hu > 0:
            muscle = np.maximum(heart, -(heart + 9)) + 2 * np.clip(x + 10, 0, 3)
            pen.paint(muscle, BLOOD_HU + 60)
        mottle = mottle_mm(x, y, z)
        lung = anatomy.lung_hu + anatomy.gravity_hu * np.clip(-y / 90, -1, 1.2)
        flow = flow_mm(x, y, z)
        lung = lung + 16 * flow + 9 * streaks + 11 * mottle
        if emphysema > 0:
            lung += emphysema_share(emphysema, flow, mottle) * (EMPHYSEMA_HU - lung)
        if anatomy.fissures:
            lung = lung + _fissures(anatomy, grid.spacing_mm[0], x, y, z)
        for share, distance in zip((left, right), anatomy.lungs(x, y, z), strict=True):
            share[box] = pen.paint(distance, lung)
        _paint_spine(anatomy, pen, mottle, grid, box)
    return hu, left, right


class SmoothNoise:
    """Unit-variance noise that varies over ``size_mm``, the same at any sampling."""

    def __init__(self, rng: np.random.Generator, size_mm: float, reach_mm: float = 260.0) -> None:
        self._size_mm = size_mm
        self._reach_mm = reach_mm
        count = int(2 * reach_mm / size_mm) + 2
        self._knots = rng.standard_normal((count, count, count), dtype=np.float32)

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Noise at broadcasting axes (1, 1, X), (1, Y, 1), (Z, 1, 1): an array (Z, Y, X)."""
        noise = self._knots
        for axis, positions in enumerate((z.ravel(), y.ravel(), x.ravel())):
            knot = np.clip(
                (positions + self._reach_mm) / self._size_mm, 0, len(self._knots) - 1.001
            )
            first = knot.astype(np.int64)
            shape = [1, 1, 1]
            shape[axis] = len(first)
            share = (knot - first).astype(np.float32).reshape(shape)
            low, high = np.take(noise, first, axis=axis), np.take(noise, first + 1, axis=axis)
            # Between knots the mean of two has less variance; the factor restores it.
            noise = (low + (high - low) * share) / np.sqrt(1 - 2 * share * (1 - share))
        return noise


class _Pen:
    """Paints shapes over HU slices in place, each edge a voxel wide."""

    def __init__(self, hu: Array, width_mm: float) -> None:
        self._hu = hu
        self._per_mm = np.float32(1 / width_mm)

    def paint(self, distance: Array, value: Array | float) -> Array:
        share = np.clip(np.float32(0.5) - distance * self._per_mm, 0, 1)
        self._hu += share * (value - self._hu)
        return share


def _fissures(anatomy: ChestAnatomy, width_mm: float, x: Array, y: Array, z: Array) -> Array:
    """HU that the interlobar fissures add: both oblique ones and the right horizontal one."""
    oblique = (z + 12 + 0.85 * y + 0.0022 * np.square(y) - 0.0025 * np.square(x)) * np.float32(0.75)
    level = z - 4 + 0.0016 * np.square(x - 70) + 0.0012 * np.square(y - 20)
    horizontal = np.where((x > 0) & (oblique > 0), level, np.float32(50))
    distance = np.minimum(np.abs(oblique), np.abs(horizontal))
    drawn = max(0.6, width_mm)
    rise: Array = np.maximum(1 - distance * np.float32(1 / drawn), 0) * np.float32(130 / drawn)
    return rise


def _paint_wall(
    anatomy: ChestAnatomy, pen: _Pen, streaks: Array, x: Array, y: Array, z: Array
) -> None:
    skin = anatomy.skin(x, y, z)
    pen.paint(skin, SKIN_HU)
    pen.paint(skin + 2.2, FAT_HU + 4 * streaks)
    muscle = anatomy.muscle_wall(x, y, z) + 1.2 * streaks
    # Fat between the muscle's bundles.
    pen.paint(np.maximum(muscle, skin + 5), MUSCLE_HU - 70 * np.clip(streaks - 1.0, 0, 1.6))
    cage = anatomy.cage(x, y, z)
    pen.paint(np.abs(cage - 14 + 1.1 * streaks) - 1.0, -60.0)
    pen.paint(cage + 1.0, FAT_HU + 18 * np.clip(streaks, 0, 2))
    couch = np.square(x * 0.045) + (anatomy.back - 70)
    pen.paint(np.abs(y - couch) - 1.2 + np.maximum(np.abs(x) - 190, 0), -650.0)


def _paint_abdomen(
    anatomy: ChestAnatomy, pen: _Pen, streaks: Array, x: Array, y: Array, z: Array
) -> None:
    if float(z.min()) > max(anatomy.dome_right, anatomy.dome_left) + 15:
        return
    cage = anatomy.cage(x, y, z)
    height_left, slope_left = anatomy.diaphragm(x, y, "left")
    height_right, slope_right = anatomy.diaphragm(x, y, "right")
    share = 1 / (1 + np.exp(-x / 9))
    height = height_left + (height_right - height_left) * share
    slope = slope_left + (slope_right - slope_left) * share
    under = smooth_max(cage + 1.5, (z - height) * slope, 4)
    contrast = anatomy.contrast_hu
    pen.paint(under, MUSCLE_HU)
    pen.paint(under + 3.5, FAT_HU)
    edge = -x - 42 + 0.35 * (anatomy.dome_left - z) + 0.25 * np.abs(y - 20)
    liver = smooth_max(smooth_max(under + 3.5, edge, 12), -(y + 52) - 0.2 * (x - 40), 10)
    pen.paint(liver, 58 + 0.3 * contrast + 3 * streaks)
    spleen = np.sqrt(
        np.square((x + 88) / 30) + np.square((y + 42) / 44) + np.square((z + 118) / 34)
    )
    pen.paint(smooth_max(under + 4, (spleen - 1) * 30, 6), 50 + 0.4 * contrast)
    stomach = np.sqrt(
        np.square((x + 58) / 40) + np.square((y - 24) / 44) + np.square((z + 122) / 34)
    )
    wall = smooth_max(under + 4, (stomach - 1) * 36, 6)
    pen.paint(wall, 45.0)
    pen.paint(wall + 3.5, 18.0)
    # Gas rises to the front of a patient on the back.
    pen.paint(np.maximum(wall + 3.5, 30 - y), -960.0)


def _paint_spine(
    anatomy: ChestAnatomy,
    pen: _Pen,
    mottle: Array,
    grid: PhantomGrid,
    box: tuple[slice, slice, slice],
) -> None:
    _, rows, columns = grid.box(np.array([-30.0, -150, 0]), np.array([30.0, 10, 0]))
    x, y, z = grid.axes((box[0], rows, columns))
    near = _Pen(pen._hu[:, rows, columns], grid.spacing_mm[0])
    noise = mottle[:, rows, columns]
    centre = anatomy.spine_y(z)
    phase = np.mod(z - TOP_RIB_MM + VERTEBRA_MM / 2 - 1, VERTEBRA_MM - 2) / (VERTEBRA_MM - 2)
    disc = (np.abs(phase - 0.5) - 0.40) * (VERTEBRA_MM - 2)
    waist = 1.6 * np.square(2 * phase - 1)
    flat = np.where(y > centre, 1.0, 1.25).astype(np.float32)
    body = np.sqrt(np.square(x * 0.9) + np.square((y - centre) * flat)) - 14.5 - waist
    pen_body = np.maximum(body, disc)
    near.paint(body, 85.0)
    near.paint(pen_body, 420.0)
    near.paint(pen_body + 2.0, 165 + 35 * noise)
    canal = np.sqrt(np.square(x) + np.square(y - centre + 23))
    near.paint(np.maximum(np.abs(canal - 10.5) - 2, disc + 2), 380.0)
    near.paint(canal - 8.5, 5.0)
    near.paint(canal - 5.5, 35.0)
