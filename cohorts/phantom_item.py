"""One scan of a phantom cohort: its files and its datalist item."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cohorts.phantom_plan import ScanPlan
from cohorts.phantom_scan import PhantomScan, render_scan
from cohorts.replaced_file import replaced_file

FOLDERS = ("images", "masks", "lungs", "items")


def make_item(plan: ScanPlan, folder: Path, fingerprint: str) -> dict[str, Any]:
    """Render a scan, write its three NIfTI files and return its datalist item.

    The item is written last, so a scan with an item of this fingerprint is complete.
    """
    rng = np.random.default_rng(list(plan.seed))
    scan_rng, follow_up_rng = rng.spawn(2)
    scan = render_scan(list(plan.nodules), plan.scanner, scan_rng)
    item = _describe(plan, scan, follow_up_rng)
    for key, array in (("image", scan.image_hu), ("mask", scan.mask), ("lungs", scan.lungs)):
        _write_nifti(array, scan.grid.affine, folder / item[key])
    with replaced_file(item_path(plan, folder)) as part:
        part.write_text(json.dumps({"fingerprint": fingerprint, "item": item}), encoding="utf-8")
    return item


def finished_item(plan: ScanPlan, folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The item of a scan that an earlier run with the same settings completed."""
    try:
        record = json.loads(item_path(plan, folder).read_text(encoding="utf-8"))
        item: dict[str, Any] = record["item"]
        complete = record["fingerprint"] == fingerprint and all(
            (folder / item[key]).is_file() for key in ("image", "mask", "lungs")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return item if complete else None


def item_path(plan: ScanPlan, folder: Path) -> Path:
    """Where a completed scan's item stands until and after the datalist is written."""
    return folder / "items" / f"{plan.patient_id}.json"


def _describe(plan: ScanPlan, scan: PhantomScan, rng: np.random.Generator) -> dict[str, Any]:
    name = f"{plan.patient_id}.nii.gz"
    # A made-up follow-up of six years or so: cancers are found early or late, some never looked
    # for again.
    years = round(float(np.clip(rng.exponential(1.8), 0.1, 6.0)), 2)
    censoring = round(float(rng.uniform(1.0, 7.0)), 2)
    return {
        "patient_id": plan.patient_id,
        "image": f"images/{name}",
        "mask": f"masks/{name}",
        "lungs": f"lungs/{name}",
        "boxes": scan.boxes_mm,
        "box_labels": [int(nodule["malignant"]) for nodule in scan.nodules],
        "nodules": scan.nodules,
        "risk": int(plan.positive),
        "side": scan.side,
        "years_to_diagnosis": years if plan.positive else None,
        "censoring_years": max(censoring, years) if plan.positive else censoring,
        "scanner": plan.scanner.as_record(),
    }


def _write_nifti(array: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    # No name and no time in the header: equal scans are equal files.
    with (
        replaced_file(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(image.to_bytes())
