"""Cohorts of scans: phantoms, datalists and the reading of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not on first use: importing the module of the same name would hide the function.
from cohorts.scan_items import scan_items

if TYPE_CHECKING:
    from cohorts.datalist import load_datalist, read_datalist, write_datalist
    from cohorts.gallery import draw_gallery
    from cohorts.lidc_nodules import LidcNodule, lidc_database, lidc_split, read_lidc_nodules
    from cohorts.lidc_shape import consensus_mask
    from cohorts.mammogram_phantom import MammogramSettings, make_mammograms
    from cohorts.phantom import make_cohort
    from cohorts.phantom_plan import CohortSettings
    from cohorts.phantom_scan import PhantomScan, render_scan
    from cohorts.phantom_scanner import ScannerSettings
    from cohorts.readable_scans import ReadableScans

__all__ = [
    "CohortSettings",
    "LidcNodule",
    "MammogramSettings",
    "PhantomScan",
    "ReadableScans",
    "ScannerSettings",
    "consensus_mask",
    "draw_gallery",
    "lidc_database",
    "lidc_split",
    "load_datalist",
    "make_cohort",
    "make_mammograms",
    "read_datalist",
    "read_lidc_nodules",
    "render_scan",
    "scan_items",
    "write_datalist",
]

_HOMES = {
    "CohortSettings": "phantom_plan",
    "LidcNodule": "lidc_nodules",
    "MammogramSettings": "mammogram_phantom",
    "PhantomScan": "phantom_scan",
    "ReadableScans": "readable_scans",
    "ScannerSettings": "phantom_scanner",
    "consensus_mask": "lidc_shape",
    "draw_gallery": "gallery",
    "lidc_database": "lidc_nodules",
    "lidc_split": "lidc_nodules",
    "load_datalist": "datalist",
    "make_cohort": "phantom",
    "make_mammograms": "mammogram_phantom",
    "read_datalist": "datalist",
    "read_lidc_nodules": "lidc_nodules",
    "render_scan": "phantom_scan",
    "write_datalist": "datalist",
}


def __getattr__(name: str) -> Any:
    # Names are looked up on first use: a reader of datalists does not wait for torch or SciPy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
