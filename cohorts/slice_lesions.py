"""Lesions of a scan from boxes drawn on its slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cohorts.dicom_scan import DicomScan
from cohorts.linked_boxes import link_boxes
from transforms.boxes_to_voxels import boxes_to_world

# Left, top, right and bottom edges in pixels; pixel i reaches from i to i + 1.
SliceBox = tuple[float, float, float, float]


def slice_lesions(
    boxes_of_uid: Mapping[str, Sequence[SliceBox]], scan: DicomScan
) -> tuple[list[list[float]], list[dict[str, Any]]]:
    """A scan's lesions as 3D boxes, and for each a record with all of its slices' boxes.

    The 3D box is the hull of the boxes that :func:`cohorts.linked_boxes.link_boxes` links, and
    reaches over the whole of their slices.

    Args:
        boxes_of_uid: boxes of each slice by its SOPInstanceUID.
        scan: that the slices are of.

    Returns:
        Boxes ``(N, 6)``, centre and size in RAS mm, and records with ``instance``, ``malignant``
        and ``slice_boxes``, as drawn, one slice thick, in the same unit.

    Raises:
        ValueError: a slice that the scan lacks, or a box without area or outside of the slice.
    """
    corners = []
    for uid, boxes in boxes_of_uid.items():
        if not boxes:
            continue
        if uid not in scan.slice_of_uid:
            raise ValueError(
                f"{scan.folder}: a slice with a box must be in the series, got no {uid}"
            )
        depth = float(scan.slice_of_uid[uid])
        for left, top, right, bottom in boxes:
            _check_box((left, top, right, bottom), uid, scan)
            corners.append([left, top, depth, right, bottom, depth + 1])
    affine = torch.as_tensor(scan.affine)
    boxes_mm, records = [], []
    for instance, members in enumerate(link_boxes(corners, slice_mm=scan.slice_mm), start=1):
        drawn = np.array([corners[member] for member in members])
        hull = np.concatenate([drawn[:, :3].min(axis=0), drawn[:, 3:].max(axis=0)])
        boxes_mm.append(boxes_to_world(hull[None], affine)[0].tolist())
        slices_mm = boxes_to_world(drawn, affine).tolist()
        records.append({"instance": instance, "malignant": True, "slice_boxes": slices_mm})
    return boxes_mm, records


def _check_box(box: SliceBox, uid: str, scan: DicomScan) -> None:
    left, top, right, bottom = box
    columns, rows = scan.hu.shape[:2]
    if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
        raise ValueError(
            f"{scan.folder}: a box must lie in its slice of {columns} x {rows} pixels, "
            f"got {list(box)} in {uid}"
        )
