"""One synthetic mammogram: a breast, its glandular tissue and its masses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float64]

ROWS, COLUMNS = 256, 192
PIXEL_MM = 0.8
# Pixel values are made-up counts that grow with what the beam meets, from 0 to 4095: dark air,
# bright tissue, as in a mammogram "for presentation". They are no HU and no physical dose.
AIR_COUNTS, FAT_COUNTS, GLAND_COUNTS, MASS_COUNTS, NOISE_COUNTS = 80.0, 1300.0, 700.0, 750.0, 30.0
HIGHEST_COUNTS = 4095
SKIN_MM, ROUNDED_MM = 1.6, 14.0
TEXTURE_POWER = 3.0  # of the noise spectrum, about that of breasts (Burgess, Med Phys 28, 2001)
MASK_SHARE = 0.2  # of a mass's peak; what is fainter is outside of its mask


@dataclass(frozen=True)
class MassShape:
    """A mass to draw: ``radius_mm`` of its core; a malignant one has spicules."""

    radius_mm: float
    malignant: bool


@dataclass(frozen=True)
class MammogramPhantom:
    """A rendered mammogram; arrays are ``(rows, columns)``.

    Attributes:
        image_counts: int16, made-up counts from 0 to 4095.
        mask: uint8, the masses as instances 1, 2, ...
        boxes_mm: for each mass centre and size ``[cx, cy, w, h]`` in the affine's mm.
        masses: for each mass what the datalist says of it.
        affine: 4x4, from (column, row, 0) to mm.
    """

    image_counts: NDArray[np.int16]
    mask: NDArray[np.uint8]
    boxes_mm: list[list[float]]
    masses: list[dict[str, Any]]
    affine: NDArray[np.float64] = field(
        # That of a DICOM image without a position: columns to the left, rows to the back.
        default_factory=lambda: np.diag([-PIXEL_MM, -PIXEL_MM, 1.0, 1.0])
    )


def render_mammogram(
    shapes: list[MassShape], laterality: str, rng: np.random.Generator
) -> MammogramPhantom:
    """Draws one breast with its masses, as a view from above (craniocaudal).

    The chest wall is the image's left edge for a left breast and its right edge for a right one.
    Thickness falls off towards the skin; glandular tissue is power-law noise behind the nipple,
    crossed by straight strands. A benign mass is a smooth ellipse, a malignant one an irregular
    core with spicules. All of it is made up; it serves to try a 2D network, nothing else.

    Raises:
        ValueError: laterality is neither ``left`` nor ``right``, or a mass has no room.
    """
    if laterality not in ("left", "right"):
        raise ValueError(f"laterality must be left or right, got {laterality!r}")
    breast, skin_mm = _breast(rng)
    thickness = np.sqrt(np.clip(skin_mm / ROUNDED_MM, 0, 1))
    tissue = FAT_COUNTS + GLAND_COUNTS * _glands(breast, skin_mm, rng)
    tissue += 0.6 * GLAND_COUNTS * ((skin_mm > 0) & (skin_mm <= SKIN_MM))
    mask = np.zeros(breast.shape, np.uint8)
    places = []
    for instance, shape in enumerate(shapes, start=1):
        centre = _place(shape, skin_mm, mask, rng)
        profile = (_spiculated if shape.malignant else _smooth)(shape, centre, rng)
        tissue += MASS_COUNTS * rng.uniform(0.8, 1.2) * profile
        mask[(profile > MASK_SHARE) & breast & (mask == 0)] = instance
        places.append(centre)
    image = AIR_COUNTS + thickness * tissue + rng.normal(0, NOISE_COUNTS, breast.shape)
    counts = image.clip(0, HIGHEST_COUNTS).round().astype(np.int16)
    if laterality == "right":
        counts, mask = counts[:, ::-1].copy(), mask[:, ::-1].copy()
    boxes = [_box_mm(mask == instance) for instance in range(1, len(shapes) + 1)]
    masses = [_record(shape, number) for number, shape in enumerate(shapes, start=1)]
    return MammogramPhantom(counts, mask, boxes, masses)


def _grid_mm() -> tuple[Image, Image]:
    """Each pixel's distance from the chest wall (left edge) and from the middle row."""
    rows, columns = np.indices((ROWS, COLUMNS), dtype=float)
    return (columns + 0.5) * PIXEL_MM, (rows + 0.5 - ROWS / 2) * PIXEL_MM


def _breast(rng: np.random.Generator) -> tuple[NDArray[np.bool_], Image]:
    """Where the breast is, and each of its pixels' distance in mm from the skin."""
    from_wall, across = _grid_mm()
    depth, half_height = rng.uniform(85, 125), rng.uniform(75, 95)
    across = across - rng.uniform(-6, 6)
    breast = (from_wall / depth) ** 2 + np.abs(across / half_height) ** 2.2 < 1
    # The chest wall is no skin: the breast goes on beyond the edge.
    beyond = np.pad(breast, ((0, 0), (40, 0)), mode="edge")
    return breast, ndimage.distance_transform_edt(beyond, sampling=PIXEL_MM)[:, 40:]


def _glands(breast: NDArray[np.bool_], skin_mm: Image, rng: np.random.Generator) -> Image:
    """Share of glandular tissue, 0 to 1, most of it in the middle of the breast."""
    texture = _power_law_noise(rng)
    texture = (texture - texture[breast].mean()) / texture[breast].std()
    depth = skin_mm / skin_mm.max()
    density = rng.uniform(-1.2, 0.6)
    glands = 1 / (1 + np.exp(-2.5 * (texture + 2.5 * depth - 1.2 + density)))
    from_wall, across = _grid_mm()
    for _ in range(rng.integers(4, 9)):
        # A strand, so that a straight line alone is no sign of a cancer.
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-50, 50)
        off = (from_wall - 45) * np.cos(angle) + across * np.sin(angle) - offset
        along = across * np.cos(angle) - (from_wall - 45) * np.sin(angle) - rng.uniform(-40, 40)
        glands += 0.25 * np.exp(-0.5 * (off / 0.9) ** 2) * (np.abs(along) < rng.uniform(8, 30))
    return np.asarray(glands * breast)


def _power_law_noise(rng: np.random.Generator) -> Image:
    white = np.fft.rfft2(rng.normal(size=(ROWS, COLUMNS)))
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(ROWS), np.fft.rfftfreq(COLUMNS), indexing="ij")
    )
    frequency[0, 0] = np.inf  # no mean
    return np.fft.irfft2(white * frequency ** (-TEXTURE_POWER / 2), s=(ROWS, COLUMNS))


def _place(
    shape: MassShape, skin_mm: Image, mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[float, float]:
    """A place away from skin, chest wall and other masses: mm from the wall and the middle row."""
    from_wall, across = _grid_mm()
    reach = 2.2 * shape.radius_mm
    free = (skin_mm > max(reach, ROUNDED_MM)) & (from_wall > reach)
    if mask.any():
        free &= ndimage.distance_transform_edt(mask == 0, sampling=PIXEL_MM) > reach
    rows, columns = np.nonzero(free)
    if len(rows) == 0:
        raise ValueError(f"radius_mm must leave room in the breast, got {shape.radius_mm}")
    pick = rng.integers(len(rows))
    return float(from_wall[rows[pick], columns[pick]]), float(across[rows[pick], columns[pick]])


def _polar(centre: tuple[float, float]) -> tuple[Image, Image]:
    from_wall, across = _grid_mm()
    x, y = from_wall - centre[0], across - centre[1]
    return np.hypot(x, y), np.arctan2(y, x)


def _smooth(shape: MassShape, centre: tuple[float, float], rng: np.random.Generator) -> Image:
    """Shadow of an ellipsoid, 0 to 1."""
    distance, angle = _polar(centre)
    stretch = 1 + rng.uniform(0, 0.25) * np.cos(2 * (angle - rng.uniform(0, np.pi)))
    return _shadow(distance / (shape.radius_mm * stretch))


def _spiculated(shape: MassShape, centre: tuple[float, float], rng: np.random.Generator) -> Image:
    """Shadow of an irregular core with lines that run out from it, 0 to 1."""
    distance, angle = _polar(centre)
    outline = sum(
        rng.uniform(0.04, 0.12) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
        for wave in range(2, 7)
    )
    mass = _shadow(distance / (shape.radius_mm * (0.85 + outline)))
    count = int(rng.integers(10, 17))
    for number in range(count):
        direction = 2 * np.pi * (number + rng.uniform(-0.3, 0.3)) / count
        length = shape.radius_mm * rng.uniform(0.6, 1.2)
        bend = rng.uniform(-0.02, 0.02) * distance
        turned = (angle - direction - bend + np.pi) % (2 * np.pi) - np.pi
        aside = distance * np.sin(turned)
        fading = np.clip(1 - (distance - shape.radius_mm) / length, 0, 1)
        line = np.exp(-0.5 * (aside / 0.7) ** 2) * fading * (np.cos(turned) > 0)
        mass = np.maximum(mass, 0.55 * line)
    return mass


def _shadow(radius: Image) -> Image:
    return np.sqrt(np.clip(1 - radius**2, 0, 1))


def _box_mm(instance: NDArray[np.bool_]) -> list[float]:
    """Centre and size, to the edges of the outer pixels."""
    centre, size = [], []
    for axis in (1, 0):
        used = np.flatnonzero(instance.any(axis=1 - axis))
        centre.append(round(-PIXEL_MM * float(used[0] + used[-1]) / 2, 4))
        size.append(round(PIXEL_MM * float(used[-1] - used[0] + 1), 4))
    return centre + size


def _record(shape: MassShape, instance: int) -> dict[str, Any]:
    return {
        "instance": instance,
        "malignant": shape.malignant,
        "margin": "spiculated" if shape.malignant else "smooth",
        "core_radius_mm": round(shape.radius_mm, 3),
    }
