"""What a detector's evaluation keeps of a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor

from metrics import MarkedScan, marked_scans
from metrics.luna16_csv import FloatArray
from transforms import boxes_ras_lps, boxes_to_voxels, boxes_to_world
from transforms.boxes_to_voxels import is_centre_inside
from transforms.labelled_boxes import box_table


class DetectedScan(NamedTuple):
    """A scan's marks and nodules along its own axes, and where they are in the patient.

    Attributes:
        patient_id: whose scan it is.
        marked: as the metric has it.
        marks_lps_mm: ``(N, 3)`` centres of its boxes; in 2D the third is 0.
        nodules_lps_mm: ``(M, 3)`` centres of its nodules; NaN where not known.
        diameters_mm: ``(M,)`` mean of each nodule's sides; NaN where not known.
    """

    patient_id: str
    marked: MarkedScan
    marks_lps_mm: FloatArray
    nodules_lps_mm: FloatArray
    diameters_mm: FloatArray


def detected_scans(
    output: Mapping[str, Any], items: Sequence[Mapping[str, Any]]
) -> list[DetectedScan]:
    """The scans of a batch.

    Args:
        output: of the evaluator: ``image`` ``(B, C, *spatial)`` with its affine; ``pred`` and
            ``label``, outputs and targets of :func:`metrics.marked_scans`, the latter with
            ``patient_id``.
        items: of the datalist, which have place and size of the nodules that a crop lost.

    Raises:
        ValueError: a box or score is NaN or infinite.
    """
    outputs, targets = output["pred"], output["label"]
    scans = []
    for index, marked in enumerate(marked_scans(outputs, targets)):
        patient, image = targets["patient_id"][index], output["image"][index]
        for name in ("boxes", "scores"):
            _check_finite(outputs[name][index], name, patient)
        count = int(targets["box_count"][index])
        known = targets["boxes_voxel"][index, :count].cpu()
        own = [item for item in items if str(item["patient_id"]) == patient]
        nodules = torch.cat((known.double(), _lost_boxes(own, image, known, marked.lost)))
        low, high = nodules.chunk(2, dim=1)
        spacing_mm = targets["spacing_mm"][index].cpu().double()
        scans.append(
            DetectedScan(
                patient,
                marked,
                _centres_lps(outputs["boxes"][index], image),
                _centres_lps(nodules, image),
                ((high - low) * spacing_mm).mean(dim=1).numpy(),
            )
        )
    return scans


def _check_finite(values: torch.Tensor, name: str, patient: str) -> None:
    wrong = values[~values.isfinite()]
    if len(wrong):
        raise ValueError(f"{patient}: the network's {name} must be finite, got {float(wrong[0])}")


def _lost_boxes(
    items: Sequence[Mapping[str, Any]], image: MetaTensor, known: torch.Tensor, count: int
) -> torch.Tensor:
    """Voxel boxes ``(count, 2 * spatial_dims)`` outside of the image; NaN where no item has them.

    A patient may have several scans: the item is the one whose other boxes are ``known``.
    """
    unknown = torch.full((count, known.shape[1]), torch.nan, dtype=torch.float64)
    if not count:
        return unknown
    for item in items:
        boxes = boxes_to_voxels(box_table(item.get("boxes", []), image), image.affine)
        inside = is_centre_inside(boxes, image)
        kept, lost = boxes[inside].float(), boxes[~inside]
        if len(lost) == count and len(kept) == len(known) and torch.allclose(kept, known):
            return lost
    return unknown


def _centres_lps(boxes_voxel: torch.Tensor, image: MetaTensor) -> FloatArray:
    world = boxes_ras_lps(boxes_to_world(boxes_voxel.detach().cpu(), image.affine))
    rank = world.shape[1] // 2
    centres = np.zeros((len(world), 3))
    centres[:, :rank] = world[:, :rank].numpy()
    return centres
