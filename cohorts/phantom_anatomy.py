"""A phantom's chest: skin, rib cage, heart, diaphragm and lungs as signed distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cohorts.phantom_grid import Array


@dataclass(frozen=True)
class ChestAnatomy:
    """One patient's chest as signed distances in mm, negative inside, over RAS coordinates.

    Lengths are those of an adult before ``scale``; the origin lies in front of the spine about
    3 cm below the tracheal bifurcation. Every method takes float32 arrays that broadcast.
    """

    scale: float
    half_width: float
    back: float
    front: float
    apex: float
    fat: float
    muscle: float
    breast: float
    heart_size: float
    heart_x: float
    dome_right: float
    dome_left: float
    dome_drop: float
    mediastinum: float
    kyphosis: float
    arch_z: float
    lung_hu: float
    gravity_hu: float
    contrast_hu: float
    fissures: bool

    def spine_y(self, z: Array) -> Array:
        """Centre of the vertebral bodies."""
        bend = np.square((z + 20) / 110)
        return (self.back + 33 + self.kyphosis * (bend - 1)).astype(np.float32)

    def cage_axes(self, z: Array) -> tuple[Array, Array, Array]:
        """Half width, half depth and the depth's centre of the inside of the ribs."""
        up = np.clip((z + 40) / (self.apex + 40), 0, 0.999)
        low = np.clip((-z - 60) / 100, 0, 1)
        back = self.back + self.kyphosis * (np.square((z + 20) / 110) - 1)
        front = back + (self.front - self.back + 8 * low) * (0.16 + 0.84 * np.sqrt(1 - up**2.2))
        half_width = self.half_width * np.sqrt(1 - up**3.2) + 4 * low
        return half_width, (front - back) / 2, (front + back) / 2

    def cage(self, x: Array, y: Array, z: Array) -> Array:
        """Inside of the ribs (the parietal pleura above the diaphragm)."""
        half_width, half_depth, centre = self.cage_axes(z)
        return _superellipse(x, y - centre, half_width, half_depth, 2.2)

    def muscle_wall(self, x: Array, y: Array, z: Array) -> Array:
        """Outside of the chest wall's muscle."""
        up = np.clip((z - 20) / 130, 0, 1)
        half = self.half_width + 14 + self.muscle + 8 * up - 26 * up**3
        back = self.back - 26 - self.muscle + self.kyphosis * (np.square((z + 20) / 110) - 1)
        front = self.front + 12 + 0.4 * self.muscle - 42 * up**1.6
        return _superellipse(x, y - (front + back) / 2, half, (front - back) / 2, 2.5)

    def skin(self, x: Array, y: Array, z: Array) -> Array:
        """Outside of the body."""
        up = np.clip((z - 20) / 130, 0, 1)
        half = self.half_width + 16 + self.muscle + self.fat + 8 * up - 22 * up**3
        bend = self.kyphosis * (np.square((z + 20) / 110) - 1)
        back = self.back - 28 - self.muscle - 0.7 * self.fat + bend
        front = self.front + 14 + 0.4 * self.muscle + 0.9 * self.fat - 38 * up**1.6
        body = _superellipse(x, y - (front + back) / 2, half, (front - back) / 2, 2.5)
        if self.breast > 0:
            radii = (60, 10 + self.breast, 62)
            for side in (-74, 74):
                bulge = _ellipsoid(x - side, y - (self.front + 2 + self.fat), z + 40, radii)
                body = smooth_min(body, bulge, 30)
        return body

    def heart(self, x: Array, y: Array, z: Array) -> Array:
        """Ventricles and atria without the pericardial fat."""
        size = self.heart_size
        cosine, sine = np.float32(np.cos(0.65)), np.float32(np.sin(0.65))
        # The long axis points to the patient's left and front.
        across, ahead = x - self.heart_x, y - 26
        along = -across * cosine + ahead * sine
        aside = across * sine + ahead * cosine
        left = _ellipsoid(along, aside, z + 50 + 0.18 * along, (62 * size, 41 * size, 50 * size))
        right = _ellipsoid(x - 20, y - 12, z + 42, (30 * size, 36 * size, 42 * size))
        return smooth_min(left, right, 10)

    def diaphragm(self, x: Array, y: Array, side: str) -> tuple[Array, Array]:
        """Height of the dome's upper surface and the cosine of its slope."""
        sign, top = (-1, self.dome_left) if side == "left" else (1, self.dome_right)
        u = (x - sign * 66) / 74
        v = (y - 14) / np.where(y > 14, 92, 84).astype(np.float32)
        height = top - self.dome_drop * (u * u + v * v * np.where(y > 14, 0.75, 1.15))
        slope_x = 2 * self.dome_drop * u / 74
        slope_y = 2 * self.dome_drop * v / 88
        return height.astype(np.float32), 1 / np.sqrt(1 + slope_x**2 + slope_y**2)

    def lungs(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """Left and right lung, hilar structures and vessels included."""
        cage = self.cage(x, y, z) + 2
        organs = 4 - self.heart(x, y, z)
        spine_y = self.spine_y(z)
        spine = 4 - _superellipse(x, y - spine_y, 19.0, 17.0, 2.0)
        common = smooth_max(smooth_max(cage, organs, 5), spine, 8)
        aorta_x, aorta_y = x - np.float32(-24), y - (spine_y + 12)
        aorta = np.sqrt(aorta_x**2 + aorta_y**2) - 14
        aorta = np.maximum(aorta, z - self.arch_z)
        arch = _ellipsoid(x + 14, y + 4, z - self.arch_z, (24, 40, 15))
        sides = []
        for side, sign in (("left", -1), ("right", 1)):
            middle = self._mediastinum_edge(y, z, side) - sign * x
            lung = smooth_max(common, middle, 8)
            if side == "left":
                lung = smooth_max(lung, -smooth_min(aorta, arch, 6), 5)
            height, slope = self.diaphragm(x, y, side)
            sides.append(smooth_max(lung, (height - z) * slope, 4))
        return sides[0], sides[1]

    def _mediastinum_edge(self, y: Array, z: Array, side: str) -> Array:
        high = 1 / (1 + np.exp(-(z - 10) / 18))
        bulge = np.exp(-np.square((y - 4) / 36))
        hilum = np.exp(-np.square((y + 8) / 20) - np.square((z - 8) / 24))
        width = self.mediastinum * (0.25 + 0.75 * bulge * (0.55 + 0.45 * high)) + 9 * hilum
        return (width + (0 if side == "right" else 5)).astype(np.float32)


def sample_anatomy(rng: np.random.Generator) -> ChestAnatomy:
    """A patient's measures, drawn around those of an adult lying on the back at full breath."""
    dome_right = rng.uniform(-92, -70)
    return ChestAnatomy(
        scale=rng.uniform(0.92, 1.04),
        half_width=rng.uniform(118, 134),
        back=rng.uniform(-99, -88),
        front=rng.uniform(78, 98),
        apex=rng.uniform(112, 126),
        fat=rng.uniform(6, 24),
        muscle=rng.uniform(5, 11),
        breast=rng.uniform(6, 22) if rng.random() < 0.45 else 0.0,
        heart_size=rng.uniform(0.88, 1.1),
        heart_x=rng.uniform(-26, -16),
        dome_right=dome_right,
        dome_left=dome_right - rng.uniform(5, 14),
        dome_drop=rng.uniform(38, 56),
        mediastinum=rng.uniform(27, 35),
        kyphosis=rng.uniform(4, 14),
        arch_z=rng.uniform(44, 56),
        lung_hu=rng.uniform(-895, -835),
        gravity_hu=rng.uniform(30, 80),
        contrast_hu=rng.uniform(90, 220) if rng.random() < 0.4 else 0.0,
        fissures=bool(rng.random() < 0.85),
    )


def smooth_max(first: Array, second: Array, radius: float) -> Array:
    """Maximum with the corner rounded over ``radius`` mm: cuts signed distances smoothly."""
    overlap = np.maximum(np.float32(radius) - np.abs(first - second), 0)
    return np.maximum(first, second) + overlap * overlap * np.float32(0.25 / radius)


def smooth_min(first: Array, second: Array, radius: float) -> Array:
    """Minimum with the corner rounded over ``radius`` mm: joins signed distances smoothly."""
    overlap = np.maximum(np.float32(radius) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap * np.float32(0.25 / radius)


def _ellipsoid(x: Array, y: Array, z: Array, radii: tuple[float, float, float]) -> Array:
    u, v, w = (
        x * np.float32(1 / radii[0]),
        y * np.float32(1 / radii[1]),
        z * np.float32(1 / radii[2]),
    )
    level = np.sqrt(u * u + v * v + w * w)
    a, b, c = (np.float32(1 / radius) for radius in radii)
    slope = np.sqrt((u * a) ** 2 + (v * b) ** 2 + (w * c) ** 2)
    # Close to the surface the level divided by its slope is the distance.
    return level * (level - 1) / np.maximum(slope, np.float32(1e-4))


def _superellipse(
    x: Array, y: Array, half_x: Array | float, half_y: Array | float, power: float
) -> Array:
    u, v = np.abs(x) / half_x, np.abs(y) / half_y
    level = np.maximum(u**power + v**power, np.float32(1e-6))
    slope = np.sqrt((u ** (power - 1) / half_x) ** 2 + (v ** (power - 1) / half_y) ** 2)
    root = level ** np.float32(1 / power)
    return ((root - 1) * (level / root) / np.maximum(slope, np.float32(1e-4))).astype(np.float32)
