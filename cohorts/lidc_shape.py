"""The shape that LIDC-IDRI's readers agree on for a nodule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from skimage.draw import polygon

from cohorts.lidc_nodules import LidcNodule, LidcReading

SHAPE_SPACING_MM = 0.5
MARGIN_MM = 4.0


@dataclass(frozen=True)
class LidcShape:
    """A nodule's surface: signed distance in mm, negative inside, on a cube grid.

    ``distance_mm`` is float32 over (left, posterior, superior) steps of ``spacing_mm``, the order
    of LIDC's columns, rows and slices; its middle is the nodule's centre of mass box.
    """

    distance_mm: NDArray[np.float32]
    spacing_mm: float = SHAPE_SPACING_MM

    @property
    def extent_mm(self) -> NDArray[np.float64]:
        """Half the grid's size along each axis."""
        return (np.asarray(self.distance_mm.shape) - 1) / 2 * self.spacing_mm

    @property
    def volume_mm3(self) -> float:
        """Volume inside the surface."""
        coverage = np.clip(0.5 - self.distance_mm / self.spacing_mm, 0, 1)
        return float(coverage.sum(dtype=np.float64)) * self.spacing_mm**3

    @property
    def diameter_mm(self) -> float:
        """Diameter of the sphere of the same volume."""
        return float((6 * self.volume_mm3 / np.pi) ** (1 / 3))

    def enlarged(self, factor: float) -> LidcShape:
        """The same shape with all its lengths times ``factor``, 1 or more.

        The margin around the surface stays ``MARGIN_MM`` or, with the old steps enlarged, up to
        one of these more; the new steps are at most about 2 mm.
        """
        if factor < 1:
            raise ValueError(f"factor must be 1 or more, got {factor}")
        margin = round(MARGIN_MM / self.spacing_mm)
        spare = margin - int(np.ceil(margin / factor))
        inner = tuple(slice(spare, size - spare) for size in self.distance_mm.shape)
        near = self.distance_mm[inner]
        parts = max(round(factor * self.spacing_mm / 1.5), 1)
        factors = [((size - 1) * parts + 1) / size for size in near.shape]
        finer = zoom(near, factors, order=3, mode="nearest")
        return LidcShape(finer * np.float32(factor), self.spacing_mm * factor / parts)


def consensus_mask(nodule: LidcNodule, agreement: float = 0.5) -> NDArray[np.bool_]:
    """Voxels (columns, rows, slices of the scan) that at least ``agreement`` of readers chose.

    The grid is the bounding box of all readings with one voxel of margin.
    """
    if not 0 < agreement <= 1:
        raise ValueError(f"agreement must be above 0 and at most 1, got {agreement}")
    contours = [contour for reading in nodule.readings for contour in reading.contours]
    points = np.concatenate([contour.points for contour in contours])
    first = points.min(axis=0) - 1
    size = points.max(axis=0) - first + 2
    low_mm = min(contour.z_mm for contour in contours)
    high_mm = max(contour.z_mm for contour in contours)
    depth = round((high_mm - low_mm) / nodule.spacing_mm[2]) + 3
    shape = (int(size[0]), int(size[1]), depth)
    votes = np.zeros(shape, dtype=np.int32)
    for reading in nodule.readings:
        votes += _reading_mask(reading, (int(first[0]), int(first[1])), low_mm, nodule, shape)
    mask: NDArray[np.bool_] = votes >= agreement * len(nodule.readings)
    # Readers who barely overlap leave no majority: then any reader's voxel counts.
    return mask if mask.any() else votes > 0


def lidc_shape(nodule: LidcNodule) -> LidcShape:
    """Smooth surface of the 50 % consensus, free of the scan's slice steps."""
    mask = np.pad(consensus_mask(nodule), 1)
    inside = distance_transform_edt(mask, sampling=nodule.spacing_mm)
    outside = distance_transform_edt(~mask, sampling=nodule.spacing_mm)
    half_voxel = np.where(mask, 0.5, -0.5) * min(nodule.spacing_mm)
    distance = (outside - inside + half_voxel).astype(np.float32)
    factors = np.asarray(nodule.spacing_mm) / SHAPE_SPACING_MM
    fine = zoom(distance, factors, order=1, mode="nearest", grid_mode=True)
    sigma = 0.35 * factors
    smooth = gaussian_filter(fine, sigma, mode="nearest")
    # Smoothing a convex body shrinks it; the level that keeps the volume restores its size.
    wanted = min(mask.sum() * np.prod(factors), smooth.size - 1)
    smooth -= np.partition(smooth.ravel(), int(wanted))[int(wanted)]
    solid = np.pad(smooth < 0, round(MARGIN_MM / SHAPE_SPACING_MM) + 1)
    box = tuple(
        slice(int(where.min()) - round(MARGIN_MM / SHAPE_SPACING_MM), int(where.max()) + 9)
        for where in np.nonzero(solid)
    )
    solid = solid[box]
    signed = distance_transform_edt(~solid) - distance_transform_edt(solid)
    signed = (signed - np.sign(signed) * 0.5) * SHAPE_SPACING_MM
    return LidcShape(gaussian_filter(signed.astype(np.float32), 0.6, mode="nearest"))


def _reading_mask(
    reading: LidcReading,
    first: tuple[int, int],
    low_mm: float,
    nodule: LidcNodule,
    shape: tuple[int, int, int],
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    # Holes last, whatever the order in the file.
    for contour in sorted(reading.contours, key=lambda contour: not contour.inclusion):
        columns, rows = (contour.points - np.asarray(first)).T
        level = mask[:, :, round((contour.z_mm - low_mm) / nodule.spacing_mm[2]) + 1]
        filled = np.zeros(shape[:2], dtype=bool)
        filled[polygon(columns, rows, shape[:2])] = True
        if contour.inclusion:
            # The outline is the first pixel outside; a nodule of outline alone is kept whole.
            inner = filled.copy()
            inner[columns, rows] = False
            filled[columns, rows] = True
            level |= inner if inner.any() else filled
        else:
            level &= ~filled
    return mask
