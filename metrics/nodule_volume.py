"""How large a nodule is, by counting voxels and by weighing those that it fills in part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.special import erf

from metrics.bootstrap_interval import FloatArray
from metrics.check_nodule import AIR_HU, check_image, checked_mask, checked_spacing_mm
from metrics.check_scans import BoolArray

# In mm. A voxel's blur reaches as far as the scanner's, and its own size.
_BLUR_REACH, _BLUR_SIGMA, _LOCAL_SIGMA = 1.4, 0.5, 1.5
# In reaches: from 1 to 2.5 round the nodule lies the lung that is its background.
_RING_END, _MOVABLE = 2.5, 0.7
_SHELLS_PER_REACH = 4
_MIN_CONTRAST_HU, _MIN_LUNG_VOXELS, _MAX_RATIO = 100.0, 20, 3.0

_Hu = npt.NDArray[np.float32]


class NoduleVolume(NamedTuple):
    """Attributes:
    voxel_count_mm3: voxels of the mask times the volume of one.
    weighted_mm3: partial-volume-weighted volume; None where the HU do not tell the nodule from
        its surroundings.
    nodule_hu: estimated density inside, None with ``weighted_mm3``.
    lung_hu: estimated density of the lung around it, None with ``weighted_mm3``.
    """

    voxel_count_mm3: float
    weighted_mm3: float | None
    nodule_hu: float | None
    lung_hu: float | None


class _Look(NamedTuple):
    """What the image tells within a surface, arrays ``(H, W, D)``.

    Attributes:
        share: excess over the lung in units of the nodule's.
        depth: distance from the surface in reaches, inward above 0.
        excess_hu: the nodule's over the lung.
    """

    share: npt.NDArray[np.floating]
    depth: FloatArray
    excess_hu: float


def margin_voxels(spacing_mm: npt.ArrayLike) -> npt.NDArray[np.int_]:
    """How far round a mask :func:`nodule_volume` looks at the image, per axis."""
    spacing = checked_spacing_mm(spacing_mm)
    return np.ceil(_RING_END / _in_reaches(spacing)).astype(int)


def nodule_volume(
    image_hu: npt.NDArray[np.generic],
    mask: npt.ArrayLike,
    spacing_mm: npt.ArrayLike,
    *,
    excluded: BoolArray | None = None,
) -> NoduleVolume:
    """Voxel-count and partial-volume-weighted volume of one nodule in mm3.

    Blur moves density across a nodule's surface and loses none, so the excess over the lung,
    divided by the nodule's own excess, sums to its volume. Both densities are estimated: the
    lung's in a ring without vessels, wall or other nodules, the nodule's beyond the reach of the
    blur, or in the deepest voxels of a small one as those of a sphere blurred by a Gaussian of
    1.2 mm (full width at half maximum). Far from the surface a voxel counts whole, whatever it
    holds. Where something bright adjoins, the surface counts as elsewhere at equal depth.

    Args:
        image_hu: ``(H, W, D)``, with `margin_voxels` round the nodule where the scan has them.
        mask: ``(H, W, D)`` of 0 and 1, the nodule.
        spacing_mm: per axis.
        excluded: ``(H, W, D)``, voxels that are neither the nodule nor lung, as other nodules.

    Raises:
        ValueError: an empty mask, shapes that differ, values that are not finite, or a bad
            spacing.
    """
    spacing, given = checked_spacing_mm(spacing_mm), checked_mask(mask)
    check_image(image_hu, given)
    if not given.any():
        raise ValueError("mask must hold a nodule, got an empty mask")
    voxel_mm3 = float(spacing.prod())
    count_mm3 = int(given.sum()) * voxel_mm3
    unknown = NoduleVolume(count_mm3, None, None, None)
    crop = _box(given, margin_voxels(spacing))
    image, given = image_hu[crop].astype(np.float32), given[crop]
    other = np.zeros_like(given) if excluded is None else excluded[crop]
    around = _surroundings(image, given, spacing, other)
    if around is None:
        return unknown
    lung_hu, foreign = around
    near = _box(given, np.ceil((1 + _MOVABLE) / _in_reaches(spacing)).astype(int))
    above, given, foreign = image[near] - np.float32(lung_hu), given[near], foreign[near]
    look = _look(above, given, foreign, spacing)
    # The mask may be a voxel too wide or too narrow: the surface is where half is nodule.
    half = (look.share > 0.5) & (look.depth >= -_MOVABLE)
    moved = np.where(foreign, given, half | (look.depth >= 1))
    if not moved.any():
        return unknown
    look = _look(above, moved, foreign, spacing)
    weighted_mm3 = _volume_voxels(look, foreign) * voxel_mm3
    if not count_mm3 / _MAX_RATIO < weighted_mm3 < count_mm3 * _MAX_RATIO:
        return unknown
    return NoduleVolume(count_mm3, weighted_mm3, lung_hu + look.excess_hu, lung_hu)


def _in_reaches(spacing_mm: FloatArray) -> FloatArray:
    """A step along each axis in units of how far a voxel's blur reaches."""
    return spacing_mm / (_BLUR_REACH + spacing_mm)


def _box(inside: BoolArray, pad: npt.NDArray[np.int_]) -> tuple[slice, ...]:
    """The box round ``inside``, ``pad`` voxels wider on each side where the array goes on."""
    box = []
    for axes, width in zip(((1, 2), (0, 2), (0, 1)), pad.tolist(), strict=True):
        filled = np.flatnonzero(inside.any(axis=axes))
        box.append(slice(max(int(filled[0]) - width, 0), int(filled[-1]) + width + 1))
    return tuple(box)


def _surroundings(
    image: _Hu, inside: BoolArray, spacing_mm: FloatArray, other: BoolArray
) -> tuple[float, BoolArray] | None:
    """Density of the lung around, and the voxels that something bright in it may have reached.

    None where there is no lung around, or the nodule is too much like it.
    """
    unit = _in_reaches(spacing_mm)
    distance = distance_transform_edt(~inside, sampling=unit)
    ring = (distance > 1) & (distance <= _RING_END) & ~other
    nodule_hu = float(np.median(image[inside]))
    lung = _lung_hu(image[ring], nodule_hu)
    if lung is None or nodule_hu - lung[0] < _MIN_CONTRAST_HU:
        return None
    lung_hu, noise_hu = lung
    bright = ring & (image - lung_hu > max(4 * noise_hu, (nodule_hu - lung_hu) / 3)) | other
    if not bright.any():
        return lung_hu, bright
    return lung_hu, distance_transform_edt(~bright, sampling=unit) < 1


def _look(above: _Hu, inside: BoolArray, foreign: BoolArray, spacing_mm: FloatArray) -> _Look:
    """``above`` is the excess over the lung in HU."""
    unit = _in_reaches(spacing_mm)
    depth = distance_transform_edt(inside, sampling=unit)
    depth -= distance_transform_edt(~inside, sampling=unit)
    deep = depth >= min(1.0, 0.8 * float(depth.max()))
    local = _local_mean(above, deep, spacing_mm)
    share = above / np.maximum(local, _MIN_CONTRAST_HU, out=local)
    whole = _Look(share, depth, float(above[deep].mean()))
    voxels = _volume_voxels(whole, foreign)
    seen = _seen_share(voxels * float(spacing_mm.prod()), deep, spacing_mm)
    return _Look(share * np.float32(seen), depth, whole.excess_hu / seen)


def _lung_hu(ring_hu: _Hu, nodule_hu: float) -> tuple[float, float] | None:
    """Mean and noise of the lung in the ring; None where there is too little or none."""
    if len(ring_hu) < _MIN_LUNG_VOXELS:
        return None
    kept = ring_hu[ring_hu < (np.percentile(ring_hu, 25) + nodule_hu) / 2]
    for _ in range(3):
        if len(kept) < _MIN_LUNG_VOXELS:
            return None
        middle = np.median(kept)
        off = np.abs(kept - middle)
        kept = kept[off <= 3 * 1.4826 * np.median(off)]
    mean = float(kept.mean(dtype=np.float64))
    return (mean, float(kept.std(dtype=np.float64))) if mean < AIR_HU else None


def _local_mean(above: _Hu, deep: BoolArray, spacing_mm: FloatArray) -> _Hu:
    """Mean over the deep voxels round the deep voxel that is nearest to each voxel."""
    sigma = (_LOCAL_SIGMA / spacing_mm).tolist()
    weight = gaussian_filter(deep.astype(np.float32), sigma, truncate=3)
    summed = gaussian_filter(np.where(deep, above, np.float32(0)), sigma, truncate=3)
    nearest = distance_transform_edt(
        ~deep, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    mean: _Hu = np.divide(summed, weight, out=np.zeros_like(summed), where=deep)
    return mean[tuple(nearest)]


def _volume_voxels(look: _Look, foreign: BoolArray) -> float:
    """Whole voxels inside, and those of the blurred surface by their share.

    Foreign ones count with the mean of the others of equal depth.
    """
    surface = np.abs(look.depth) < 1
    shells = np.floor((look.depth[surface] + 1) * _SHELLS_PER_REACH).astype(int)
    known = ~foreign[surface]
    bins = 2 * _SHELLS_PER_REACH
    sums = np.bincount(shells[known], look.share[surface][known], minlength=bins)
    counts = np.bincount(shells[known], minlength=bins)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    return float((look.depth >= 1).sum() + means @ np.bincount(shells, minlength=bins))


def _seen_share(volume_mm3: float, deep: BoolArray, spacing_mm: FloatArray) -> float:
    """What blur leaves of the excess in the deep voxels of a sphere of so large a volume.

    The volume follows from the share and the share from the volume: a few rounds settle both.
    """
    offsets_mm = (np.argwhere(deep) - np.argwhere(deep).mean(axis=0)) * spacing_mm
    r = max(float(np.sqrt((offsets_mm**2).sum(axis=1).mean())), 0.05)
    # A slice is a box of its spacing, whose standard deviation is a twelfth's root of it.
    sigma = float(np.prod(_BLUR_SIGMA**2 + spacing_mm**2 / 12) ** (1 / 6))
    seen = 1.0
    for _ in range(5):
        radius = max(3 * max(volume_mm3, 0.0) * seen / (4 * np.pi), 1.0) ** (1 / 3)
        near, far = (radius - r) / sigma, (radius + r) / sigma
        cut = sigma / (r * np.sqrt(2 * np.pi)) * (np.exp(-(near**2) / 2) - np.exp(-(far**2) / 2))
        seen = max((erf(near / np.sqrt(2)) + erf(far / np.sqrt(2))) / 2 - cut, 0.5)
    return float(seen)
