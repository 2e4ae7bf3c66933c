"""A scan's predicted mask, judged nodule by nodule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from monai.data.utils import to_affine_nd

from metrics.check_nodule import checked_spacing_mm
from metrics.nodule_instances import NoduleInstances, nodule_instances
from metrics.nodule_shares import Labels, nodule_shares
from metrics.segmented_nodule import SegmentedNodule, segmented_nodule

# What makes the speck of 3D, a sphere of 3 mm, a circle of 3 mm in 2D.
_PLANE_MM = 2.0


class SegmentedScan(NamedTuple):
    """Attributes:
    patient_id: whose scan it is.
    nodules: the true ones, in the order of their labels.
    components: how many the prediction has.
    false_components: how many of them touch no true nodule.
    predicted_mm3: volume of all of them, in 2D their area in mm2.
    false_mm3: of those that touch none.
    dice: of all nodules as one mask; None where there is neither a nodule nor a prediction.
    """

    patient_id: str
    nodules: tuple[SegmentedNodule, ...]
    components: int
    false_components: int
    predicted_mm3: float
    false_mm3: float
    dice: float | None


def segmented_scan(
    truth: npt.NDArray[np.generic],
    predicted: npt.ArrayLike,
    affine: npt.ArrayLike,
    *,
    patient_id: str,
) -> SegmentedScan:
    """Judge a predicted mask on the grid of the true one.

    The prediction's components are those of :func:`metrics.nodule_instances`, without specks. A
    nodule's share of them is that of :func:`metrics.nodule_shares`; it is found where its IoU with
    the share is 0.1 or more. Only what lies round a nodule is looked at closely.

    Args:
        truth: ``(H, W, D)`` or ``(H, W)`` of whole numbers, 0 or the label of a nodule.
        predicted: of that shape, 0 and 1.
        affine: voxels to RAS mm, ``(spatial_dims + 1)`` square or 4x4.
        patient_id: whose scan it is.

    Raises:
        ValueError: shapes that differ, labels below 0 or not whole, other values in the
            prediction, or a bad spacing.
    """
    labels, mask = _checked_labels(truth, patient_id), np.asarray(predicted)
    if labels.ndim not in (2, 3) or labels.shape != mask.shape:
        raise ValueError(
            f"{patient_id}: truth and prediction must be of one shape (H, W) or (H, W, D), "
            f"got {labels.shape} and {mask.shape}"
        )
    rank = labels.ndim
    matrix = np.asarray(to_affine_nd(rank, np.asarray(affine, dtype=np.float64)))
    spacing_mm = np.linalg.norm(matrix[:rank, :rank], axis=0)
    spacing_3d = checked_spacing_mm([*spacing_mm, _PLANE_MM][:3])
    if rank == 2:
        labels, mask = labels[..., None], mask[..., None]
    instances = nodule_instances(mask, spacing_3d)
    shares = nodule_shares(labels, instances, spacing_3d)
    nodules, overlap = [], 0
    for label, box in shares.boxes.items():
        inside, share = labels[box] == label, shares.labels[box] == label
        nodules.append(segmented_nodule(label, inside, share, box, matrix))
        overlap += int(np.count_nonzero(inside & share))
    voxels = _voxels(instances)
    is_false = np.ones(len(voxels), dtype=bool)
    is_false[[component - 1 for component in shares.touching]] = False
    both = int(voxels.sum()) + int(np.count_nonzero(labels))
    voxel_mm3 = float(spacing_mm.prod())
    return SegmentedScan(
        patient_id,
        nodules=tuple(nodules),
        components=len(voxels),
        false_components=int(is_false.sum()),
        predicted_mm3=int(voxels.sum()) * voxel_mm3,
        false_mm3=int(voxels[is_false].sum()) * voxel_mm3,
        dice=2 * overlap / both if both else None,
    )


def _checked_labels(truth: npt.NDArray[np.generic], patient: str) -> Labels:
    """``truth`` as integers: resampling to the nearest voxel leaves whole numbers as floats."""
    labels: Labels = truth.astype(truth.dtype if truth.dtype.kind in "iu" else np.int32, copy=False)
    if labels is not truth and not np.array_equal(labels, truth):
        raise ValueError(f"{patient}: the true mask must hold whole numbers, got others")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high >= 2**16:
        raise ValueError(f"{patient}: the true mask must be from 0 to 65535, got {low} to {high}")
    return labels


def _voxels(instances: NoduleInstances) -> npt.NDArray[np.int64]:
    """Of each component."""
    counts = [
        np.count_nonzero(instances.labels[box] == number)
        for number, box in enumerate(instances.boxes, start=1)
    ]
    return np.array(counts, dtype=np.int64)
