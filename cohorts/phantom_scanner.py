"""The scanner of the phantoms: voxels, slice thickness, dose and kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.phantom_grid import Array, PhantomGrid, phantom_grid

KERNELS = ("soft", "lung")
# Noise of a standard-dose scan with the soft kernel and slices of 1.25 mm.
REFERENCE_NOISE_HU = 22.0
REFERENCE_THICKNESS_MM = 1.25
LUNG_KERNEL_NOISE = 2.2
FINEST_STEP_MM = 2.0
# Ranges of a varied scanner: of the dose, relative to the cohort's, and of the slice thickness,
# relative to the distance of the slices.
VARIED_DOSE = (0.25, 2.0)
VARIED_THICKNESS = (1.0, 2.0)


@dataclass(frozen=True)
class ScannerSettings:
    """How a phantom is scanned: voxel spacing (columns, rows, slices), dose and kernel.

    ``dose`` is relative to a standard chest CT; the noise rises with its inverse square root.
    """

    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    slice_thickness_mm: float | None = None
    field_of_view_mm: tuple[float, float, float] = (360.0, 360.0, 300.0)
    dose: float = 1.0
    kernel: str = "soft"

    def __post_init__(self) -> None:
        for name in ("spacing_mm", "field_of_view_mm"):
            if not all(np.isfinite(value) and value > 0 for value in getattr(self, name)):
                raise ValueError(f"{name} must be above 0 on each axis, got {getattr(self, name)}")
        if not 0 < self.thickness_mm < np.inf:
            raise ValueError(f"slice_thickness_mm must be above 0, got {self.thickness_mm}")
        if not 0 < self.dose < np.inf:
            raise ValueError(f"dose must be above 0, got {self.dose}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {self.kernel}")
        if min(self.size) < 8:
            raise ValueError(
                f"the field of view must hold at least 8 voxels on each axis, got {self.size}"
            )

    @property
    def thickness_mm(self) -> float:
        """Slice thickness: the slice distance unless set."""
        return self.spacing_mm[2] if self.slice_thickness_mm is None else self.slice_thickness_mm

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        x, y, z = (
            round(extent / step)
            for extent, step in zip(self.field_of_view_mm, self.spacing_mm, strict=True)
        )
        return x, y, z

    @property
    def noise_sd_hu(self) -> float:
        """Standard deviation of the noise in the middle of the body."""
        kernel = LUNG_KERNEL_NOISE if self.kernel == "lung" else 1.0
        thickness = REFERENCE_THICKNESS_MM / self.thickness_mm
        return REFERENCE_NOISE_HU * kernel * float(np.sqrt(thickness / self.dose))

    def as_record(self) -> dict[str, object]:
        """The settings for a datalist."""
        return {
            "spacing_mm": list(self.spacing_mm),
            "slice_thickness_mm": self.thickness_mm,
            "field_of_view_mm": list(self.field_of_view_mm),
            "dose": self.dose,
            "kernel": self.kernel,
            "noise_sd_hu": round(self.noise_sd_hu, 3),
        }


def draw_scanner(settings: ScannerSettings, rng: np.random.Generator) -> ScannerSettings:
    """One scan's acquisition: dose log-uniform, kernel at equal odds, slice thickness uniform.

    Voxels and field of view stay; kernel and slice thickness of ``settings`` do not count.
    """
    low, high = map(math.log, VARIED_DOSE)
    return replace(
        settings,
        dose=round(settings.dose * math.exp(rng.uniform(low, high)), 6),
        kernel=KERNELS[int(rng.integers(len(KERNELS)))],
        slice_thickness_mm=round(settings.spacing_mm[2] * float(rng.uniform(*VARIED_THICKNESS)), 4),
    )


def scan_grid(settings: ScannerSettings, centre_mm: tuple[float, float, float]) -> PhantomGrid:
    """The voxels of the finished scan."""
    return phantom_grid(settings.size, settings.spacing_mm, centre_mm)


def fine_grid(settings: ScannerSettings, grid: PhantomGrid) -> PhantomGrid:
    """Grid to paint on: thick slices are several thin ones, and the ends reach a slice further."""
    step = settings.spacing_mm[2]
    parts = int(np.ceil(step / FINEST_STEP_MM))
    beyond = int(np.ceil(max(0.0, settings.thickness_mm - step) / 2 / step))
    count = (len(grid.z_mm) + 2 * beyond) * parts
    first = float(grid.z_mm[0]) - (beyond + 0.5) * step + step / parts / 2
    z_mm = (first + np.arange(count) * (step / parts)).astype(np.float32)
    return PhantomGrid(
        grid.x_mm, grid.y_mm, z_mm, (settings.spacing_mm[0], settings.spacing_mm[1], step / parts)
    )


def average_slices(
    volume: Array, fine: PhantomGrid, grid: PhantomGrid, thickness_mm: float
) -> Array:
    """Mean of the fine slices over each slice's thickness, ``(z, y, x)``."""
    step = fine.spacing_mm[2]
    if len(fine.z_mm) == len(grid.z_mm):
        return volume
    result = np.empty(grid.shape, dtype=np.float32)
    for index, z in enumerate(grid.z_mm):
        overlap = np.minimum(fine.z_mm + step / 2, z + thickness_mm / 2)
        overlap = overlap - np.maximum(fine.z_mm - step / 2, z - thickness_mm / 2)
        used = np.flatnonzero(overlap > 1e-4 * step)
        share = overlap[used] / overlap[used].sum()
        result[index] = np.tensordot(share.astype(np.float32), volume[used[0] : used[-1] + 1], 1)
    return result


def acquire(
    hu: Array, grid: PhantomGrid, settings: ScannerSettings, rng: np.random.Generator
) -> NDArray[np.int16]:
    """The finished scan: kernel, noise correlated in the slice, whole HU. Changes ``hu``."""
    spacing_mm = settings.spacing_mm[0]
    profile = 0.7 + 0.35 * np.clip(
        1 - np.square(grid.x_mm[None, :] / 170) - np.square(grid.y_mm[:, None] / 125), -0.8, 1
    )
    profile = (profile * settings.noise_sd_hu).astype(np.float32)
    noise_scale = _noise_scale(settings)
    scan = np.empty(hu.shape, dtype=np.int16)
    for index in range(len(hu)):
        sharp = hu[index]
        soft = gaussian_filter(sharp, 0.55 / spacing_mm)
        if settings.kernel == "lung":
            soft = sharp + 0.5 * (sharp - gaussian_filter(sharp, 0.8 / spacing_mm))
        noise = _filtered(rng.standard_normal(sharp.shape, dtype=np.float32), settings)
        soft += profile * noise * noise_scale
        scan[index] = np.clip(np.rint(soft), -1024, 3071).astype(np.int16)
    return scan


def _filtered(noise: Array, settings: ScannerSettings) -> Array:
    smooth: Array = gaussian_filter(noise, 0.75 / settings.spacing_mm[0], mode="wrap")
    return noise - np.float32(0.7) * smooth if settings.kernel == "lung" else smooth


def _noise_scale(settings: ScannerSettings) -> np.float32:
    """Factor that restores unit variance after the kernel, from its own impulse."""
    impulse = np.zeros((65, 65), dtype=np.float32)
    impulse[32, 32] = 1
    return np.float32(1 / np.sqrt(np.square(_filtered(impulse, settings)).sum()))
