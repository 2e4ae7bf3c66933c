"""``python -m benchmarks.nodule_volume``: volumes of digital spheres, and the time they take."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from benchmarks.digital_sphere import DigitalSphere, Scanner, digital_sphere
from benchmarks.report import Row, write_report
from metrics.nodule_measurements import nodule_measurements
from metrics.nodule_volume import nodule_volume

REPEATS = 100
DIAMETERS_MM = (4.0, 6.0, 8.0, 12.0)
SCANNERS = {
    "0.625 mm slices": Scanner(spacing_mm=(0.7, 0.7, 0.625)),
    "1 mm slices": Scanner(spacing_mm=(0.7, 0.7, 1.0)),
    "1.25 mm slices": Scanner(spacing_mm=(0.7, 0.7, 1.25)),
    "1.25 mm slices, sharp kernel": Scanner(spacing_mm=(0.7, 0.7, 1.25), blur_fwhm_mm=0.8),
    "1.25 mm slices, smooth kernel": Scanner(spacing_mm=(0.7, 0.7, 1.25), blur_fwhm_mm=1.5),
    "2.5 mm slices": Scanner(spacing_mm=(0.7, 0.7, 2.5)),
}
GROUND_GLASS_HU = -600.0
_USUAL = "1.25 mm slices"
_SCAN_SHAPE, _SCAN_NODULES = (512, 512, 200), 10
_NOTES = (
    "Phantom results: digital spheres, not scans of patients.",
    "Spheres of 0 HU (ground glass: -600) in lung of -850 at random places between the voxels, "
    "pixels of 0.7 mm, Gaussian blur of 1.2 mm full width at half maximum (sharp kernel: 0.8, "
    "smooth: 1.5), slices as boxes of their spacing, noise of 30 HU with a grain of 0.8 mm. "
    f"{REPEATS} spheres per row; density is estimated from the image, never given.",
    "Weighted is metrics.nodule_volume's partial-volume-weighted volume. The mask holds the voxels "
    "that lie in the sphere by half or more; too wide and too narrow: by one voxel on each side. "
    "Withheld: spheres without a weighted volume.",
    f"Time: CPU seconds of one thread, {_SCAN_NODULES} spheres of 4 to 20 mm in a scan of "
    "512 x 512 x 200 in memory: components, volumes, diameters and masses; median of 9.",
)


def main() -> None:
    torch.set_num_threads(1)
    rows = [Row("10 nodules in 512 x 512 x 200, measured", 1000 * measuring_s(), None, "ms")]
    for diameter_mm in DIAMETERS_MM:
        for name, scanner in SCANNERS.items():
            spheres = _spheres(diameter_mm, scanner)
            rows += volume_rows(f"{diameter_mm:g} mm, {name}", spheres, scanner)
            if name == _USUAL:
                wide = [sphere._replace(mask=binary_dilation(sphere.mask)) for sphere in spheres]
                rows += volume_rows(f"{diameter_mm:g} mm, {name}, mask too wide", wide, scanner)
        if diameter_mm >= 6:
            narrow = [
                sphere._replace(mask=binary_erosion(sphere.mask))
                for sphere in _spheres(diameter_mm, SCANNERS[_USUAL])
            ]
            name = f"{diameter_mm:g} mm, {_USUAL}, mask too narrow"
            rows += volume_rows(name, narrow, SCANNERS[_USUAL])
        glass = _spheres(diameter_mm, SCANNERS[_USUAL], nodule_hu=GROUND_GLASS_HU)
        name = f"{diameter_mm:g} mm, {_USUAL}, ground glass"
        rows += volume_rows(name, glass, SCANNERS[_USUAL])
    write_report("nodule_volume", rows, notes=_NOTES)


def _spheres(diameter_mm: float, scanner: Scanner, nodule_hu: float = 0.0) -> list[DigitalSphere]:
    rng = np.random.default_rng(0)
    return [digital_sphere(diameter_mm, scanner, rng, nodule_hu=nodule_hu) for _ in range(REPEATS)]


def volume_rows(name: str, spheres: list[DigitalSphere], scanner: Scanner) -> list[Row]:
    """Bias and standard deviation in per cent of the true volume."""
    found = [nodule_volume(one.image_hu, one.mask, scanner.spacing_mm) for one in spheres]
    pairs = list(zip(found, spheres, strict=True))
    counted = [100 * (f.voxel_count_mm3 / s.volume_mm3 - 1) for f, s in pairs]
    weighted = [
        100 * (f.weighted_mm3 / s.volume_mm3 - 1) for f, s in pairs if f.weighted_mm3 is not None
    ]
    rows = [Row(f"{name}: withheld", 100 * (1 - len(weighted) / len(found)), None, "%")]
    for way, errors in (("weighted", weighted), ("voxel count", counted)):
        if len(errors) > 1:
            unit = "% of the volume"
            rows.append(Row(f"{name}: {way}, bias", statistics.mean(errors), None, unit))
            rows.append(Row(f"{name}: {way}, SD", statistics.stdev(errors), None, unit))
    return rows


def measuring_s() -> float:
    """Median CPU seconds for all measurements of a scan."""
    image, mask, affine = phantom_scan(_SCAN_SHAPE)
    taken = []
    for _ in range(10):
        start = time.thread_time()
        _, measurements = nodule_measurements(image, mask, affine)
        taken.append(time.thread_time() - start)
        if len(measurements) != _SCAN_NODULES:
            raise RuntimeError(f"a scan of 10 nodules must give 10, got {len(measurements)}")
    return statistics.median(taken[1:])


def phantom_scan(
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Ten spheres spread over a scan of lung and noise: HU int16, mask uint8 and affine."""
    rng = np.random.default_rng(0)
    scanner = SCANNERS[_USUAL]
    noise = rng.standard_normal(shape, dtype=np.float32)
    image = (noise * scanner.noise_hu - 850).astype(np.int16)
    mask = np.zeros(shape, dtype=np.uint8)
    for number, diameter_mm in enumerate(np.linspace(4, 20, _SCAN_NODULES).tolist()):
        sphere = digital_sphere(diameter_mm, scanner, rng)
        size = np.array(sphere.mask.shape)
        place = (rng.uniform(0.1, 0.9, 3) * (np.array(shape) - size)).astype(int)
        # Each in its tenth of the plane, so that no sphere meets another.
        place[:2] = np.array([number % 5, number // 5]) * np.array(shape[:2]) // [5, 2]
        box = tuple(slice(a, a + n) for a, n in zip(place.tolist(), size.tolist(), strict=True))
        image[box], mask[box] = sphere.image_hu.astype(np.int16), sphere.mask
    return image, mask, np.diag([*scanner.spacing_mm, 1.0])


if __name__ == "__main__":
    main()
