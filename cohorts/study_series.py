"""The series of DICOM studies, whatever folders they lie in, and the one to use of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from tqdm import tqdm

from transforms.read_dicom import dicom_files

TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "ImageOrientationPatient",
    "ImagePositionPatient",
)
FEWEST_SLICES = 10
# Cosine to the patient's long axis: 20 degrees, more than a gantry tilts.
AXIAL_COSINE = 0.94


@dataclass(frozen=True)
class StudySeries:
    """All files of one series; ``slice_mm`` is 0 where it has no positions."""

    files: tuple[Path, ...]
    patient_id: str
    study_uid: str
    series_uid: str
    modality: str
    description: str
    localizer: bool
    axial: bool
    slice_mm: float

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def read_studies(root: Path) -> tuple[list[StudySeries], list[str]]:
    """Every series below ``root`` from the header of every DICOM file.

    Returns:
        The series, and a sentence for each file that cannot be read.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no DICOM file below it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: must be a folder with DICOM files, got none there")
    headers: dict[str, dict[Path, pydicom.Dataset]] = {}
    failures = []
    folders = sorted(Path(name) for name, _, files in os.walk(root, followlinks=True) if files)
    for folder in tqdm(folders, desc="folders", unit="folder"):
        files = dicom_files(folder)
        failures += [
            f"{file}: a .dcm file must hold DICOM, got something else"
            for file in sorted(folder.glob("[!.]*.dcm"))
            if file not in files
        ]
        for file in files:
            try:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
                headers.setdefault(str(header.SeriesInstanceUID), {})[file] = header
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                failures.append(f"{file}: must be a readable DICOM file, got {reason}")
    if not headers and not failures:
        raise ValueError(f"{root}: must hold DICOM files, got none")
    return [_described(uid, files) for uid, files in headers.items()], failures


def choose_series(study: Sequence[StudySeries]) -> tuple[StudySeries | None, list[str]]:
    """The axial CT series with the thinnest slices, of equal ones that with the most.

    Returns:
        The series, None where the study has none, and why each of the others is left out.
    """
    reasons = {one.series_uid: _unfit(one) for one in study}
    fit = [one for one in study if reasons[one.series_uid] is None]
    chosen = None
    if fit:
        chosen = min(fit, key=lambda one: (round(one.slice_mm, 2), -len(one.files), one.series_uid))
    sentences = []
    for one in study:
        if one is not chosen:
            reason = reasons[one.series_uid] or f"{chosen.series_uid if chosen else ''} is used"
            name = one.description or one.series_uid
            sentences.append(f"{one.folder}: {name}, {len(one.files)} files: {reason}")
    return chosen, sentences


def _unfit(series: StudySeries) -> str | None:
    if series.modality != "CT":
        return f"no CT, but {series.modality or 'no Modality'}"
    if series.localizer:
        return "a localizer"
    if not series.axial:
        return "not axial"
    if len(series.files) < FEWEST_SLICES:
        return f"fewer than {FEWEST_SLICES} slices"
    return None


def _described(series_uid: str, headers: dict[Path, pydicom.Dataset]) -> StudySeries:
    first = next(iter(headers.values()))
    normals = [_normal(header) for header in headers.values()]
    axial = all(normal is not None and abs(normal[2]) >= AXIAL_COSINE for normal in normals)
    slice_mm = 0.0
    if axial:
        positions = [header.get("ImagePositionPatient") for header in headers.values()]
        heights = [
            float(np.dot(at, normals[0])) for at in positions if at and normals[0] is not None
        ]
        gaps = np.diff(np.unique(np.round(heights, 3)))
        slice_mm = float(np.median(gaps)) if len(gaps) else 0.0
    return StudySeries(
        files=tuple(headers),
        patient_id=str(first.get("PatientID") or "").strip(),
        study_uid=str(first.get("StudyInstanceUID") or "").strip(),
        series_uid=series_uid,
        modality=str(first.get("Modality") or ""),
        description=str(first.get("SeriesDescription") or "").strip(),
        localizer="LOCALIZER" in (first.get("ImageType") or []),
        axial=axial,
        slice_mm=slice_mm,
    )


def _normal(header: pydicom.Dataset) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    directions = header.get("ImageOrientationPatient")
    if not directions or len(directions) != 6:
        return None
    along_row, down_column = np.asarray(directions, float).reshape(2, 3)
    return np.cross(along_row, down_column)
