"""Whether one scan of a datalist is what the datalist says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from cohorts.datalist import Item
from transforms.boxes_to_voxels import boxes_to_voxels, is_centre_inside
from transforms.check_boxes import check_boxes
from transforms.check_geometry import check_geometry
from transforms.check_side import check_side
from transforms.find_lungs import find_lungs
from transforms.labelled_boxes import labelled_boxes
from transforms.load_mask import load_mask
from transforms.load_scan import load_scan
from transforms.scan_error import ScanError
from transforms.square_affine import square_affine

# A lesion's box follows the mask's extent to the voxel; half a voxel is for rounding.
EXTENT_VOXEL = 0.5
LARGEST_SPACING_MM = 10.0


@dataclass
class ItemReport:
    """What was found in one scan: an error makes it unfit, a note is worth a look."""

    split: str
    patient_id: str
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    values: tuple[float, float] | None = None
    boxes: int = 0
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_item(item: Item, split: str, folder: Path, *, spatial_dims: int) -> ItemReport:
    """Read a scan and everything that belongs to it, and compare them.

    Errors: a file that does not open, values that are not HU (3D), a spacing above 10 mm, a box
    whose centre lies outside of the image, a mask or lungs on another grid, instances of the
    mask that are not the boxes, and a side that the malignant boxes contradict. Without lungs
    in the datalist those that HU show are taken, and no lung found is a note.
    """
    report = ItemReport(split, item["patient_id"], boxes=len(item.get("boxes", [])))
    try:
        image = load_scan(folder / item["image"], spatial_dims)
    except Exception as error:
        report.errors.append(_sentence(error))
        return report
    spacing = square_affine(image.affine, spatial_dims)[:-1, :-1].norm(dim=0).tolist()
    report.shape, report.spacing_mm = tuple(image.shape[1:]), tuple(spacing)
    report.values = float(image.min()), float(image.max())
    checks: list[Callable[[], None]] = [
        lambda: _check_spacing(image, spacing),
        lambda: _check_boxes(item, image),
    ]
    if "mask" in item:
        checks.append(lambda: _check_mask(item, image, folder))
    if "lungs" in item or (spatial_dims == 3 and item.get("side") in ("left", "right")):
        checks.append(lambda: _check_lungs(item, image, folder, report.notes))
    for check in checks:
        try:
            check()
        except Exception as error:
            report.errors.append(_sentence(error))
    return report


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def _check_spacing(image: MetaTensor, spacing_mm: list[float]) -> None:
    if max(spacing_mm) > LARGEST_SPACING_MM:
        listed = " x ".join(f"{value:.3g}" for value in spacing_mm)
        raise ScanError(f"spacing must be at most {LARGEST_SPACING_MM:g} mm, got {listed} mm")


def _check_boxes(item: Item, image: MetaTensor) -> None:
    boxes = item.get("boxes", [])
    if not boxes:
        return
    check_boxes(boxes, image)
    inside = is_centre_inside(boxes_to_voxels(boxes, image.affine), image).tolist()
    for number, good in enumerate(inside):
        if not good:
            raise ScanError(
                f"the centre of box {number} must lie in the image of shape "
                f"{tuple(image.shape[1:])}, got {boxes[number]} mm"
            )


def _check_mask(item: Item, image: MetaTensor, folder: Path) -> None:
    mask = load_mask(folder / item["mask"], image.ndim - 1)
    check_geometry(mask, image)
    labels = mask.as_tensor()[0].numpy()
    found = [int(label) for label in np.unique(labels) if label]
    listed: list[Item] = item.get("nodules") or [{} for _ in item.get("boxes", [])]
    wanted = [one.get("instance", number) for number, one in enumerate(listed, start=1)]
    if found != sorted(wanted):
        raise ScanError(f"the mask must hold the instances {wanted} of the boxes, got {found}")
    if not found:
        return
    boxes = boxes_to_voxels(item["boxes"], image.affine).numpy()
    for number, (instance, box) in enumerate(zip(wanted, boxes, strict=True)):
        places = np.nonzero(labels == instance)
        extent = [*(axis.min() for axis in places), *(axis.max() + 1 for axis in places)]
        if np.abs(box - extent).max() > EXTENT_VOXEL:
            raise ScanError(
                f"box {number} must be the extent of its instance {instance}, got voxels "
                f"{np.round(box, 1).tolist()} and {np.asarray(extent).tolist()}"
            )


def _check_lungs(item: Item, image: MetaTensor, folder: Path, notes: list[str]) -> None:
    given = load_mask(folder / item["lungs"], image.ndim - 1) if "lungs" in item else None
    lungs = find_lungs(image, given)
    if not torch.any(lungs.as_tensor()):
        notes.append("no lung found")
        return
    if item.get("side") not in ("left", "right"):
        return
    labels: list[Any] = item.get("box_labels", [])
    malignant = labelled_boxes(item.get("boxes", []), labels, label=1, image=image)
    check_side(malignant, item["side"], lungs=lungs, image=image)
