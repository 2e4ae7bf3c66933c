"""LIDC-IDRI's nodules on the grid of their scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.dicom_scan import DicomScan
from cohorts.lidc_nodules import LidcNodule
from cohorts.lidc_shape import consensus_mask
from transforms.boxes_to_voxels import boxes_to_world

# Of a slice: how far an outline's height may be from the slice's.
OFF_SLICE = 0.25


def lidc_instances(
    nodules: Sequence[LidcNodule], scan: DicomScan, *, agreement: float
) -> tuple[NDArray[np.uint16], list[list[float]], list[dict[str, Any]]]:
    """Instance masks ``(columns, rows, slices)``, boxes in RAS mm and a record for each nodule.

    A box is the extent of its nodule's consensus. Where two nodules overlap the smaller one has
    the voxels.

    Args:
        nodules: of the scan, outlines in its pixels.
        scan: axial, columns towards the patient's left, rows to the back.
        agreement: share of a nodule's readers that must have chosen a voxel, above 0 to 1.

    Raises:
        ValueError: another orientation, or an outline that is not on a slice or in the image.
    """
    _check_axial(scan)
    mask = np.zeros(scan.hu.shape, np.uint16)
    boxes_mm, records = [], []
    parts = [_placed(nodule, scan, agreement) for nodule in nodules]
    order = sorted(range(len(parts)), key=lambda index: -int(parts[index][1].sum()))
    for index in order:
        low, part = parts[index]
        region = tuple(slice(a, a + size) for a, size in zip(low, part.shape, strict=True))
        mask[region][part] = index + 1
    voxel_mm3 = abs(float(np.linalg.det(scan.affine[:3, :3])))
    for instance, (nodule, (low, part)) in enumerate(zip(nodules, parts, strict=True), start=1):
        corners = torch.tensor([[*low, *np.add(low, part.shape)]], dtype=torch.float64)
        boxes_mm.append(boxes_to_world(corners, torch.as_tensor(scan.affine))[0].tolist())
        records.append(
            {
                "instance": instance,
                "malignant": nodule.malignant,
                "readers": len(nodule.readings),
                "diameter_mm": nodule.diameter_mm,
                "volume_mm3": int(part.sum()) * voxel_mm3,
                **nodule.ratings,
            }
        )
    return mask, boxes_mm, records


def _check_axial(scan: DicomScan) -> None:
    steps = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    if np.abs(steps - np.diag([-1, -1, 1])).max() > 1e-3:
        raise ValueError(
            f"{scan.folder}: slices must be axial with rows from right to left, "
            f"got the directions {np.round(steps, 3).tolist()}"
        )


def _placed(
    nodule: LidcNodule, scan: DicomScan, agreement: float
) -> tuple[list[int], NDArray[np.bool_]]:
    """First voxel and consensus of a nodule, cut to its extent."""
    contours = [contour for reading in nodule.readings for contour in reading.contours]
    heights = np.array([contour.z_mm for contour in contours])
    depth = (heights - scan.affine[2, 3]) / scan.affine[2, 2]
    for z_mm, place in zip(heights, depth, strict=True):
        if abs(place - round(place)) > OFF_SLICE or not 0 <= round(place) < scan.hu.shape[2]:
            raise ValueError(
                f"{scan.folder}: an outline must be on one of the series' slices, got one at "
                f"{z_mm:g} mm in nodule {nodule.number}"
            )
    mask = consensus_mask(nodule, agreement)
    points = np.concatenate([contour.points for contour in contours])
    # The grid of the consensus has one voxel of margin.
    origin = [*(points.min(axis=0) - 1).tolist(), round(float(depth.min())) - 1]
    where = np.argwhere(mask)
    first, last = where.min(axis=0), where.max(axis=0)
    part = mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    low = (np.array(origin) + first).tolist()
    if min(low) < 0 or (np.add(low, part.shape) > scan.hu.shape).any():
        raise ValueError(
            f"{scan.folder}: an outline must lie in the image of shape {scan.hu.shape}, got "
            f"voxels {low} to {np.add(low, part.shape).tolist()} in nodule {nodule.number}"
        )
    return low, part
