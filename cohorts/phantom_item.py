"""One scan of a phantom cohort: its files and its datalist item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cohorts.phantom_follow_up import follow_up
from cohorts.phantom_plan import ScanPlan
from cohorts.phantom_scan import PhantomScan, render_scan
from cohorts.replaced_file import replaced_file
from cohorts.write_nifti import write_nifti

FOLDERS = ("images", "masks", "lungs", "items")


def make_item(plan: ScanPlan, folder: Path, fingerprint: str) -> dict[str, Any]:
    """Render a scan, write its three NIfTI files and return its datalist item.

    The item is written last, so a scan with an item of this fingerprint is complete.
    """
    rng = np.random.default_rng(list(plan.seed))
    scan_rng, follow_up_rng = rng.spawn(2)
    scan = render_scan(
        list(plan.nodules),
        plan.scanner,
        scan_rng,
        emphysema=plan.emphysema,
        masses_mm=plan.masses_mm,
    )
    item = _describe(plan, scan, follow_up_rng)
    for key, array in (("image", scan.image_hu), ("mask", scan.mask), ("lungs", scan.lungs)):
        write_nifti(array, scan.grid.affine, folder / item[key])
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
    years_to_diagnosis, censoring_years = follow_up(scan.nodules, rng)
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
        "years_to_diagnosis": years_to_diagnosis,
        "censoring_years": censoring_years,
        "emphysema": plan.emphysema,
        "scanner": plan.scanner.as_record(),
    }
