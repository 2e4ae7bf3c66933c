"""Every nodule of a scan, measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.check_nodule import check_hu, checked_mask, checked_spacing_mm
from metrics.nodule_diameters import nodule_diameters
from metrics.nodule_instances import NoduleInstances, nodule_instances
from metrics.nodule_mass import nodule_mass_mg
from metrics.nodule_volume import margin_voxels, nodule_volume


class NoduleMeasurement(NamedTuple):
    """Attributes:
    centre_mm: middle of its voxels in RAS mm.
    voxel_count_mm3, weighted_mm3, nodule_hu, lung_hu: see `NoduleVolume`.
    longest_mm, perpendicular_mm, mean_diameter_mm: see `NoduleDiameters`.
    mass_mg: see `nodule_mass_mg`.
    """

    centre_mm: tuple[float, float, float]
    voxel_count_mm3: float
    weighted_mm3: float | None
    nodule_hu: float | None
    lung_hu: float | None
    longest_mm: float
    perpendicular_mm: float
    mean_diameter_mm: float
    mass_mg: float


def nodule_measurements(
    image_hu: npt.NDArray[np.generic], mask: npt.ArrayLike, affine: npt.ArrayLike
) -> tuple[NoduleInstances, list[NoduleMeasurement]]:
    """Find the nodules of a mask and measure each, in the order of their labels.

    Args:
        image_hu: ``(H, W, D)``, the whole scan.
        mask: ``(H, W, D)`` of 0 and 1; an empty one has no nodules.
        affine: ``(4, 4)``, voxels to RAS mm.

    Raises:
        ValueError: shapes that differ, values that are not HU, other mask values, or a spacing
            that is not finite and above 0.
    """
    matrix = _checked_affine(affine)
    inside = checked_mask(mask)
    instances = nodule_instances(inside, np.linalg.norm(matrix[:3, :3], axis=0))
    everyone = range(1, len(instances.boxes) + 1)
    return instances, measured_instances(image_hu, instances, matrix, numbers=everyone)


def measured_instances(
    image_hu: npt.NDArray[np.generic],
    instances: NoduleInstances,
    affine: npt.ArrayLike,
    *,
    numbers: Sequence[int],
) -> list[NoduleMeasurement]:
    """Measure nodules that :func:`nodule_instances` has found.

    Args:
        image_hu: ``(H, W, D)``, the whole scan.
        instances: of its mask.
        affine: ``(4, 4)``, voxels to RAS mm.
        numbers: labels of those to measure, in the order wanted; the others do not count as
            nodules.

    Raises:
        ValueError: as :func:`nodule_measurements`.
    """
    matrix = _checked_affine(affine)
    spacing = checked_spacing_mm(np.linalg.norm(matrix[:3, :3], axis=0))
    shape = instances.labels.shape
    if image_hu.shape != shape:
        raise ValueError(f"image_hu must be {shape} as the mask, got {image_hu.shape}")
    check_hu(image_hu)
    counts = np.zeros(len(instances.boxes) + 1, dtype=bool)
    counts[list(numbers)] = True
    margin = margin_voxels(spacing).tolist()
    measurements = []
    for number in numbers:
        box = instances.boxes[number - 1]
        crop = tuple(
            slice(max(part.start - pad, 0), part.stop + pad)
            for part, pad in zip(box, margin, strict=True)
        )
        labels = instances.labels[crop]
        one, image = labels == number, image_hu[crop]
        volume = nodule_volume(image, one, spacing, excluded=counts[labels] & ~one)
        diameters = nodule_diameters(one, matrix)
        centre = np.argwhere(one).mean(axis=0) + [part.start for part in crop]
        centre_mm = (matrix[:3, :3] @ centre + matrix[:3, 3]).tolist()
        measurements.append(
            NoduleMeasurement(
                (centre_mm[0], centre_mm[1], centre_mm[2]),
                *volume,
                diameters.longest_mm,
                diameters.perpendicular_mm,
                diameters.mean_mm,
                nodule_mass_mg(image, one, spacing),
            )
        )
    return measurements


def _checked_affine(affine: npt.ArrayLike) -> npt.NDArray[np.float64]:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"affine must be (4, 4), got {matrix.shape}")
    return matrix
