"""A true nodule and what a prediction made of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import BoolArray
from metrics.nodule_shares import Box
from metrics.nodule_size import size_class
from metrics.surface_distance import surface_distance

# nnDetection's (arXiv:2106.00817): a mask that merely touches a nodule has not found it.
FOUND_IOU = 0.1


class SegmentedNodule(NamedTuple):
    """A true nodule and its share of the prediction (:func:`metrics.nodule_shares`).

    In 2D volumes are areas in mm2, and the diameter is that of a circle.

    Attributes:
        instance: its label in the true mask.
        centre_lps_mm: mean of its voxels; in 2D the third is 0.
        diameter_mm: of the sphere of its volume.
        volume_mm3: of its voxels.
        predicted_mm3: of its share; 0 where nothing touches it.
        found: whether the IoU of nodule and share is 0.1 or more.
        dice: of nodule and share, found or not; 0 where nothing touches it.
        surface_distance_mm, hausdorff_95_mm: see `SurfaceDistance`; None if not found.
    """

    instance: int
    centre_lps_mm: tuple[float, float, float]
    diameter_mm: float
    volume_mm3: float
    predicted_mm3: float
    found: bool
    dice: float
    surface_distance_mm: float | None
    hausdorff_95_mm: float | None

    @property
    def size_class(self) -> str:
        """One of ``metrics.SIZE_CLASSES``."""
        return size_class(self.diameter_mm)

    @property
    def volume_error_percent(self) -> float | None:
        """Predicted less true volume over the true one, above 0 where too large; None if not
        found."""
        return 100 * (self.predicted_mm3 / self.volume_mm3 - 1) if self.found else None


def segmented_nodule(
    instance: int, truth: BoolArray, share: BoolArray, box: Box, affine: FloatArray
) -> SegmentedNodule:
    """Judge a nodule on a part of the scan that holds it and its share.

    Args:
        instance: its label.
        truth: ``(H, W, D)``, or ``(H, W, 1)`` in 2D, its voxels in the box; at least one.
        share: of that shape, the predicted ones.
        box: where the part lies in the scan.
        affine: voxels of the scan to RAS mm, ``(spatial_dims + 1)`` square.
    """
    rank = len(affine) - 1
    spacing_mm = np.linalg.norm(affine[:rank, :rank], axis=0)
    voxel_mm3 = float(spacing_mm.prod())
    voxels, predicted = int(np.count_nonzero(truth)), int(np.count_nonzero(share))
    overlap = int(np.count_nonzero(truth & share))
    found = overlap >= FOUND_IOU * (voxels + predicted - overlap)
    masks = (truth, share) if rank == 3 else (truth[..., 0], share[..., 0])
    distance = surface_distance(*masks, spacing_mm.tolist()) if found else None
    middle = np.argwhere(truth).mean(axis=0) + [part.start for part in box]
    centre_mm = np.zeros(3)
    centre_mm[:rank] = affine[:rank, :rank] @ middle[:rank] + affine[:rank, rank]
    x, y, z = centre_mm.tolist()
    return SegmentedNodule(
        instance,
        centre_lps_mm=(-x, -y, z),
        diameter_mm=_diameter_mm(voxels * voxel_mm3, rank),
        volume_mm3=voxels * voxel_mm3,
        predicted_mm3=predicted * voxel_mm3,
        found=found,
        dice=2 * overlap / (voxels + predicted),
        surface_distance_mm=None if distance is None else distance.mean_mm,
        hausdorff_95_mm=None if distance is None else distance.hausdorff_95_mm,
    )


def _diameter_mm(size: float, rank: int) -> float:
    """Of the sphere of a volume, or of the circle of an area."""
    return float((6 * size / np.pi) ** (1 / 3) if rank == 3 else (4 * size / np.pi) ** 0.5)
