"""A CT of a sphere, computed and not drawn: what it was made of is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import erf

FULL_WIDTH = 2 * np.sqrt(2 * np.log(2))
_STEPS_PER_MM = 100
_SAMPLES_MM = 0.35
_MARGIN_MM = 8.0


@dataclass(frozen=True)
class Scanner:
    """How a sphere is seen: slices are sharp boxes of their spacing, the blur is Gaussian."""

    spacing_mm: tuple[float, float, float] = (0.7, 0.7, 1.0)
    blur_fwhm_mm: float = 1.2
    noise_hu: float = 30.0
    noise_fwhm_mm: float = 0.8


class DigitalSphere(NamedTuple):
    """``image_hu`` float32 and ``mask``, the voxels that lie in the sphere by half or more."""

    image_hu: NDArray[np.float32]
    mask: NDArray[np.bool_]
    volume_mm3: float


def digital_sphere(
    diameter_mm: float,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    nodule_hu: float = 0.0,
    lung_hu: float = -850.0,
) -> DigitalSphere:
    """A sphere at a random place between the voxels, with 8 mm of lung round it.

    Raises:
        ValueError: a diameter that is not above 0.
    """
    if not diameter_mm > 0:
        raise ValueError(f"diameter_mm must be above 0, got {diameter_mm}")
    spacing = np.asarray(scanner.spacing_mm)
    half = np.ceil((diameter_mm / 2 + _MARGIN_MM) / spacing).astype(int)
    centre_mm = rng.uniform(-0.5, 0.5, 3) * spacing
    sigma_mm = scanner.blur_fwhm_mm / FULL_WIDTH
    seen = _covered(half, spacing, centre_mm, _profile(diameter_mm / 2, sigma_mm))
    # A sharp sphere is the limit of a blur of nothing.
    covered = _covered(half, spacing, centre_mm, _profile(diameter_mm / 2, 1e-3))
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    if scanner.noise_fwhm_mm:
        noise = gaussian_filter(noise, scanner.noise_fwhm_mm / FULL_WIDTH / spacing, mode="wrap")
        noise /= noise.std()
    image = lung_hu + (nodule_hu - lung_hu) * seen + scanner.noise_hu * noise
    volume_mm3 = float(np.pi / 6 * diameter_mm**3)
    return DigitalSphere(image.astype(np.float32), covered >= 0.5, volume_mm3)


def _profile(radius_mm: float, sigma_mm: float) -> NDArray[np.float64]:
    """Share of the sphere under a Gaussian whose middle lies 0, 0.01 ... mm from the centre."""
    r = np.arange(1, (radius_mm + 3 * _MARGIN_MM) * _STEPS_PER_MM) / _STEPS_PER_MM
    near, far = (radius_mm - r) / sigma_mm, (radius_mm + r) / sigma_mm
    cut = sigma_mm / (r * np.sqrt(2 * np.pi)) * (np.exp(-(near**2) / 2) - np.exp(-(far**2) / 2))
    share = (erf(near / np.sqrt(2)) + erf(far / np.sqrt(2))) / 2 - cut
    return np.concatenate([share[:1], share])


def _covered(
    half: NDArray[np.int_],
    spacing_mm: NDArray[np.float64],
    centre_mm: NDArray[np.float64],
    profile: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean of ``profile`` over samples at most 0.35 mm apart in each voxel."""
    squares = []
    # An odd number: no voxel is covered by exactly half.
    counts = np.ceil(spacing_mm / _SAMPLES_MM).astype(int) | 1
    for n, step, centre, samples in zip(half, spacing_mm, centre_mm, counts, strict=True):
        inside = (np.arange(samples) + 0.5) / samples - 0.5
        squares.append(((np.arange(-n, n + 1)[:, None] + inside) * step - centre).ravel() ** 2)
    squares = [square.astype(np.float32) for square in squares]
    x, y, z = np.ix_(*squares)
    distance = np.sqrt(x + y + z) * np.float32(_STEPS_PER_MM)
    share = profile[np.rint(distance, out=distance).astype(np.int32)]
    (h, w, d), (i, j, k) = 2 * half + 1, counts
    return share.reshape(h, i, w, j, d, k).mean(axis=(1, 3, 5))
