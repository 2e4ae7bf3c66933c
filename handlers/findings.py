"""A detector's boxes as numbers for a file."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor

from transforms import boxes_ras_lps, boxes_to_voxels, boxes_to_world
from transforms.square_affine import square_affine

DECIMALS = 3

FINDING_KEYS = {
    "number": "from 1, by falling score",
    "score": "of the network, for research; not the probability of a nodule or of cancer",
    "centre_lps_mm": "the box's centre, mm towards the patient's left, back and head, as in DICOM",
    "centre_ras_mm": "the same, mm towards the patient's right, front and head, as in NIfTI",
    "size_mm": "the box's sides along the patient's axes; of an oblique box those of its hull",
    "diameter_mm": "mean of the box's sides along its own axes",
    "box_ras_mm": "centre_ras_mm and size_mm",
    "box_voxel": "corners along the axes of the scan's own array, all low ends and then all high "
    "ends; voxel i covers i to i + 1, its centre is at i + 0.5",
    "picture": "three planes through the centre, or null",
}


def findings(
    boxes_voxel: torch.Tensor, scores: torch.Tensor, *, image: MetaTensor, scan: MetaTensor
) -> list[dict[str, Any]]:
    """Each box in world mm and in the scan's own voxels, by falling score.

    The keys are those of ``FINDING_KEYS`` less ``picture``; lengths have three decimals. An
    oblique image has its box's hull in world mm, but in voxels of a scan with the same axes the
    box itself.

    Args:
        boxes_voxel: ``(N, 2 * spatial_dims)`` corners on the image's grid, low corner first, where
            voxel i covers [i, i + 1).
        scores: ``(N,)``.
        image: the network's input ``(C, *spatial)``; only its affine is read.
        scan: the whole scan ``(1, *spatial)``; only its affine is read.

    Raises:
        ValueError: a box or score is NaN or infinite.
    """
    scores, order = scores.detach().cpu().sort(descending=True, stable=True)
    boxes = boxes_voxel.detach().cpu().double()[order]
    for name, values in (("boxes", boxes), ("scores", scores)):
        wrong = values[~values.isfinite()]
        if len(wrong):
            raise ValueError(f"the network's {name} must be finite, got {float(wrong[0])}")
    rank = boxes.shape[1] // 2
    to_ras = square_affine(image.affine, rank)
    to_scan = square_affine(scan.affine, rank).inverse() @ to_ras
    ras = boxes_to_world(boxes, image.affine)
    low, high = boxes.chunk(2, dim=1)
    sides_mm = (high - low) * to_ras[:-1, :-1].norm(dim=0)
    # Not by way of the world, where an oblique box would grow to its hull, twice.
    on_scan = boxes_to_voxels(boxes_to_world(boxes, to_scan), torch.eye(rank + 1))
    columns = {
        "number": list(range(1, len(boxes) + 1)),
        "score": scores.tolist(),
        "centre_lps_mm": _rounded(boxes_ras_lps(ras)[:, :rank]),
        "centre_ras_mm": _rounded(ras[:, :rank]),
        "size_mm": _rounded(ras[:, rank:]),
        "diameter_mm": _rounded(sides_mm.mean(dim=1)),
        "box_ras_mm": _rounded(ras),
        "box_voxel": _rounded(on_scan),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _rounded(values: torch.Tensor) -> list[Any]:
    return (values.round(decimals=DECIMALS) + 0.0).tolist()  # no -0.0
