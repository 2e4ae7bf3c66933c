"""Nodules of a table, one row each, and the scans that they must lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from cohorts.csv_table import TableRow
from transforms.boxes_to_voxels import boxes_to_voxels, is_centre_inside

IMAGE_SUFFIXES = (".mhd", ".mha", ".nii.gz", ".nii")


@dataclass(frozen=True)
class NoduleRow:
    """A nodule and where its table names it; ``box_mm`` is centre and size in RAS mm."""

    place: str
    box_mm: tuple[float, ...]
    record: dict[str, Any]


def nodule_row(
    row: TableRow, columns: Sequence[str], diameter_mm: float, record: dict[str, Any]
) -> NoduleRow:
    """A nodule's cube from its row, whose three ``columns`` hold the centre in LPS mm."""
    x, y, z = (row.number(column) for column in columns)
    if diameter_mm <= 0:
        raise ValueError(f"{row.place}: the diameter must be above 0 mm, got {diameter_mm:g}")
    # LPS to RAS; 0.0 - x would turn -0.0 up, which JSON shows.
    return NoduleRow(row.place, (0.0 - x, 0.0 - y, z, *(diameter_mm,) * 3), record)


def check_centres(nodules: Sequence[NoduleRow], grid: MetaTensor) -> None:
    """Refuse a nodule whose centre lies outside of its scan, naming its row.

    Args:
        nodules: of one scan.
        grid: the scan ``(1, H, W, D)`` with its affine.
    """
    if not nodules:
        return
    boxes = boxes_to_voxels([nodule.box_mm for nodule in nodules], grid.affine)
    inside = is_centre_inside(boxes, grid)
    for nodule, box, good in zip(nodules, boxes, inside.tolist(), strict=True):
        if not good:
            low, high = box.chunk(2)
            voxel = [round(value, 1) for value in torch.as_tensor((low + high) / 2).tolist()]
            raise ValueError(
                f"{nodule.place}: the nodule must lie in {grid.meta['filename_or_obj']} of shape "
                f"{tuple(grid.shape[1:])}, got its centre at voxel {voxel}"
            )


def images_by_name(folder: Path) -> dict[str, Path]:
    """Every NIfTI and MetaImage below a folder by its name without suffix.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: two images share a name, so that neither is known to be the one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: must be a folder, got none there")
    images: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = next((end for end in IMAGE_SUFFIXES if path.name.lower().endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        other = images.setdefault(path.name[: -len(suffix)], path)
        if other != path:
            raise ValueError(f"{path}: a scan must be there once, got it also as {other}")
    return images


def list_missing(series: Sequence[str], folder: Path, output: Path) -> list[str]:
    """Write the scans that are not there to ``missing.txt``; one sentence if there are any."""
    listing = output / "missing.txt"
    listing.unlink(missing_ok=True)
    if not series:
        return []
    output.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{one}\n" for one in series), encoding="utf-8")
    return [
        f"{folder}: every scan of the collection must be there, got none for {len(series)}, "
        f"listed in {listing}"
    ]
