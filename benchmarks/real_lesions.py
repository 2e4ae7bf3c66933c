"""The annotated lesions of two scans of patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cohorts.dicom_scan import read_dicom_scan
from cohorts.slice_lesions import slice_lesions
from cohorts.voc_boxes import read_voc_boxes

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIDC = DATA / "lidc1011"
LUNG_PET_CT = DATA / "lung-pet-ct-dx"
READERS = 4


class RealLesion(NamedTuple):
    """A lesion that readers marked.

    Attributes:
        name: for a table.
        centre_ras_mm: its centre.
        diameter_mm: of the sphere of the consensus volume, or the mean of the box's sides.
        is_counted: whether all four readers of LIDC-IDRI marked it; the tumour is.
        slice_centres_ras_mm: ``(N, 3)`` of the boxes in its slices, where it was boxed in slices,
            else its centre.
    """

    name: str
    centre_ras_mm: np.ndarray
    diameter_mm: float
    is_counted: bool
    slice_centres_ras_mm: np.ndarray


def lidc_lesions() -> list[RealLesion]:
    """The nodules of LIDC-IDRI-1011."""
    lesions = []
    for nodule in json.loads((LIDC / "LIDC-IDRI-1011_nodules.json").read_text()):
        centre = np.array(nodule["centre_LPS_mm"]) * [-1, -1, 1]
        diameter_mm = float(np.cbrt(6 * nodule["consensus_volume_mm3"] / np.pi))
        name = f"nodule {nodule['label']}, {diameter_mm:.0f} mm"
        counted = nodule["readers"] == READERS
        lesions.append(RealLesion(name, centre, diameter_mm, counted, centre[None]))
    return lesions


def tumour(series: Path) -> RealLesion:
    """The adenocarcinoma of Lung-PET-CT-Dx A0001, from the slices of an unpacked ``series``."""
    scan = read_dicom_scan(next(series.rglob("*.dcm")).parent)
    paths = {uid: LUNG_PET_CT / "annotation-A0001" / f"{uid}.xml" for uid in scan.slice_of_uid}
    drawn = {
        uid: [box for _, box in read_voc_boxes(path)]
        for uid, path in paths.items()
        if path.is_file()
    }
    (box,), (record,) = slice_lesions(drawn, scan)
    slices = np.array([drawn_box[:3] for drawn_box in record["slice_boxes"]])
    diameter_mm = float(np.mean(box[3:]))
    return RealLesion(f"tumour, {diameter_mm:.0f} mm", np.array(box[:3]), diameter_mm, True, slices)
