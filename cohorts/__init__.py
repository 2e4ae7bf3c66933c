"""Cohorts of scans: phantoms, datalists and the reading of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not on first use: importing the module of the same name would hide the function.
from cohorts.scan_items import scan_items

if TYPE_CHECKING:
    from cohorts.check import check_datalist_scans
    from cohorts.collection import Collection
    from cohorts.datalist import load_datalist, read_datalist, write_datalist
    from cohorts.dicom_scan import DicomScan, read_dicom_scan
    from cohorts.gallery import draw_gallery
    from cohorts.lidc_agreement import ReaderAgreement, reader_agreement
    from cohorts.lidc_masks import reader_masks
    from cohorts.lidc_nodules import LidcNodule, lidc_database, read_lidc_nodules
    from cohorts.lidc_shape import consensus_mask
    from cohorts.luna16 import Luna16, luna16_fold
    from cohorts.mammogram_phantom import MammogramSettings, make_mammograms
    from cohorts.nlst import read_nlst_boxes
    from cohorts.nlst_participants import NlstParticipants
    from cohorts.patch_cache_dataset import PatchCacheDataset
    from cohorts.phantom import make_cohort
    from cohorts.phantom_plan import CohortSettings
    from cohorts.phantom_scan import PhantomScan, render_scan
    from cohorts.phantom_scanner import ScannerSettings
    from cohorts.readable_scans import ReadableScans

__all__ = [
    "CohortSettings",
    "Collection",
    "DicomScan",
    "LidcNodule",
    "Luna16",
    "MammogramSettings",
    "NlstParticipants",
    "PatchCacheDataset",
    "PhantomScan",
    "ReadableScans",
    "ReaderAgreement",
    "ScannerSettings",
    "check_datalist_scans",
    "consensus_mask",
    "draw_gallery",
    "lidc_database",
    "load_datalist",
    "luna16_fold",
    "make_cohort",
    "make_mammograms",
    "read_datalist",
    "read_dicom_scan",
    "read_lidc_nodules",
    "read_nlst_boxes",
    "reader_agreement",
    "reader_masks",
    "render_scan",
    "scan_items",
    "write_datalist",
]

_HOMES = {
    "CohortSettings": "phantom_plan",
    "Collection": "collection",
    "DicomScan": "dicom_scan",
    "LidcNodule": "lidc_nodules",
    "Luna16": "luna16",
    "MammogramSettings": "mammogram_phantom",
    "NlstParticipants": "nlst_participants",
    "PatchCacheDataset": "patch_cache_dataset",
    "PhantomScan": "phantom_scan",
    "ReadableScans": "readable_scans",
    "ReaderAgreement": "lidc_agreement",
    "ScannerSettings": "phantom_scanner",
    "check_datalist_scans": "check",
    "consensus_mask": "lidc_shape",
    "draw_gallery": "gallery",
    "lidc_database": "lidc_nodules",
    "load_datalist": "datalist",
    "luna16_fold": "luna16",
    "make_cohort": "phantom",
    "make_mammograms": "mammogram_phantom",
    "read_datalist": "datalist",
    "read_dicom_scan": "dicom_scan",
    "read_lidc_nodules": "lidc_nodules",
    "read_nlst_boxes": "nlst",
    "reader_agreement": "lidc_agreement",
    "reader_masks": "lidc_masks",
    "render_scan": "phantom_scan",
    "write_datalist": "datalist",
}


def __getattr__(name: str) -> Any:
    # Names are looked up on first use: a reader of datalists does not wait for torch or SciPy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
