from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from benchmarks.digital_sphere import DigitalSphere, Scanner, digital_sphere
from metrics.nodule_volume import NoduleVolume, nodule_volume

SPACING = (0.7, 0.7, 1.25)
USUAL = Scanner(spacing_mm=SPACING)


def errors(spheres: list[DigitalSphere], spacing: tuple[float, float, float]) -> np.ndarray:
    """Errors of the weighted volume in per cent."""
    found = [nodule_volume(one.image_hu, one.mask, spacing).weighted_mm3 for one in spheres]
    return np.array(
        [100 * (f / s.volume_mm3 - 1) for f, s in zip(found, spheres, strict=True) if f is not None]
    )


@pytest.mark.parametrize("slice_mm", [0.625, 1.0, 1.25])
@pytest.mark.parametrize(("diameter_mm", "limit"), [(4, 10), (6, 3), (10, 3)])
def test_volumes_of_digital_spheres(diameter_mm: float, limit: float, slice_mm: float) -> None:
    rng = np.random.default_rng(1)
    scanner = Scanner(spacing_mm=(0.7, 0.7, slice_mm))
    spheres = [digital_sphere(diameter_mm, scanner, rng) for _ in range(25)]
    off = errors(spheres, scanner.spacing_mm)
    assert len(off) == 25
    assert abs(off.mean()) < limit
    assert off.std(ddof=1) < limit


def test_a_mask_too_wide_changes_little() -> None:
    rng = np.random.default_rng(2)
    spheres = [digital_sphere(8, USUAL, rng) for _ in range(10)]
    wide = [one._replace(mask=binary_dilation(one.mask)) for one in spheres]
    assert np.abs(errors(wide, SPACING) - errors(spheres, SPACING)).max() < 1


def test_densities_are_found() -> None:
    sphere = digital_sphere(10, USUAL, np.random.default_rng(3), nodule_hu=-100, lung_hu=-820)
    found = nodule_volume(sphere.image_hu, sphere.mask, SPACING)
    assert found.nodule_hu == pytest.approx(-100, abs=6)
    assert found.lung_hu == pytest.approx(-820, abs=3)
    assert found.voxel_count_mm3 == pytest.approx(sphere.mask.sum() * 0.7 * 0.7 * 1.25)


def test_a_sphere_without_noise_is_exact() -> None:
    sphere = digital_sphere(12, Scanner(SPACING, noise_hu=0), np.random.default_rng(4))
    found = nodule_volume(sphere.image_hu, sphere.mask, SPACING)
    assert found.weighted_mm3 == pytest.approx(sphere.volume_mm3, rel=2e-3)


def grid_mm(shape: tuple[int, ...]) -> list[np.ndarray]:
    middle = [(n - 1) / 2 for n in shape]
    return [(axis - m) * s for axis, m, s in zip(np.indices(shape), middle, SPACING, strict=True)]


def attached(kind: str) -> tuple[np.ndarray, np.ndarray, float]:
    """A sphere of 10 mm with a vessel of 3 mm or a wall at it: image, its mask and its volume."""
    x, y, z = grid_mm((55, 55, 33))
    sphere = np.sqrt(x**2 + y**2 + z**2) <= 5
    foreign = (y**2 + z**2 <= 1.5**2) & (x > 0) if kind == "vessel" else x > 4
    image = np.where(sphere | foreign, 0.0, -850.0)
    blurred = gaussian_filter(image, 0.5 / np.array(SPACING))
    noise = np.random.default_rng(5).normal(0, 20, image.shape)
    return blurred + noise, sphere, float(sphere.sum() * np.prod(SPACING))


@pytest.mark.parametrize(("kind", "limit"), [("vessel", 0.03), ("wall", 0.06)])
def test_what_adjoins_is_not_counted(kind: str, limit: float) -> None:
    image, mask, volume_mm3 = attached(kind)
    found = nodule_volume(image, mask, SPACING)
    assert found.weighted_mm3 == pytest.approx(volume_mm3, rel=limit)
    assert found.lung_hu == pytest.approx(-850, abs=5)


def test_a_neighbour_is_not_counted() -> None:
    x, y, z = grid_mm((61, 41, 25))
    first, second = ((x + s) ** 2 + y**2 + z**2 <= 4**2 for s in (4.5, -4.5))
    image = gaussian_filter(np.where(first | second, 0.0, -850.0), 0.5 / np.array(SPACING))
    found = nodule_volume(image, first, SPACING, excluded=second)
    assert found.weighted_mm3 == pytest.approx(first.sum() * np.prod(SPACING), rel=0.03)


def test_a_part_solid_nodule_counts_its_ground_glass() -> None:
    x, y, z = grid_mm((65, 65, 37))
    r = np.sqrt(x**2 + y**2 + z**2)
    image = np.select([np.hypot(x - 2, np.hypot(y, z)) <= 3, r <= 9], [30.0, -550.0], -850.0)
    image = gaussian_filter(image, 0.5 / np.array(SPACING))
    image += np.random.default_rng(6).normal(0, 20, image.shape)
    found = nodule_volume(image, r <= 9, SPACING)
    assert found.weighted_mm3 == pytest.approx((r <= 9).sum() * np.prod(SPACING), rel=0.03)


def test_a_cavity_belongs_to_the_nodule() -> None:
    x, y, z = grid_mm((65, 65, 37))
    r = np.sqrt(x**2 + y**2 + z**2)
    image = gaussian_filter(np.where((r <= 10) & (r > 5), 0.0, -850.0), 0.5 / np.array(SPACING))
    found = nodule_volume(image, r <= 10, SPACING)
    assert found.weighted_mm3 == pytest.approx((r <= 10).sum() * np.prod(SPACING), rel=0.03)


def test_without_contrast_or_lung_only_voxels_are_counted() -> None:
    mask = np.zeros((40, 40, 30), dtype=bool)
    mask[16:24, 16:24, 12:18] = True
    counted = NoduleVolume(mask.sum() * np.prod(SPACING), None, None, None)
    rng = np.random.default_rng(7)
    for middle_hu in (-850, 40):
        image = rng.normal(middle_hu, 20, mask.shape)
        assert nodule_volume(image, mask, SPACING) == pytest.approx(counted)
    soft = np.where(mask, 400.0, 40.0)
    assert nodule_volume(soft, mask, SPACING).weighted_mm3 is None
    assert (
        nodule_volume(np.where(mask, 0.0, -850.0), np.ones_like(mask), SPACING)[1:] == (None,) * 3
    )


def test_bad_input_is_refused() -> None:
    image, mask = np.full((5, 5, 5), -850.0), np.zeros((5, 5, 5), dtype=bool)
    with pytest.raises(ValueError, match="mask must hold a nodule, got an empty mask"):
        nodule_volume(image, mask, SPACING)
    mask[2, 2, 2] = True
    with pytest.raises(ValueError, match=r"image_hu must be \(5, 5, 5\) as the mask"):
        nodule_volume(image[1:], mask, SPACING)
    image[2, 2, 2] = np.nan
    with pytest.raises(ValueError, match="image_hu must be finite in the mask, got 1 voxels"):
        nodule_volume(image, mask, SPACING)
    with pytest.raises(ValueError, match="diameter_mm must be above 0, got 0"):
        digital_sphere(0, USUAL, np.random.default_rng(0))
