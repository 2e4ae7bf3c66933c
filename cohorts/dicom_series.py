"""The DICOM series below a folder, by their headers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pydicom
from tqdm import tqdm

from transforms.read_dicom import dicom_files

TAGS = (
    "PatientID",
    "SeriesInstanceUID",
    "StudyDate",
    "Modality",
    "ImageType",
)


@dataclass(frozen=True)
class DicomSeries:
    """A folder with one series, as its first file describes it."""

    folder: Path
    patient_id: str
    series_uid: str
    study_date: str
    modality: str
    localizer: bool


def find_series(root: Path) -> tuple[list[DicomSeries], list[str]]:
    """Every folder below ``root`` that holds DICOM files, described by its first file.

    A folder that mixes series is one of them, and is refused when it is read.

    Returns:
        The series, and a sentence for each folder whose first file cannot be read.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no DICOM file below it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: must be a folder with DICOM series, got none there")
    found, failures = [], []
    folders = sorted(Path(name) for name, _, files in os.walk(root, followlinks=True) if files)
    for folder in tqdm(folders, desc="folders", unit="folder"):
        files = dicom_files(folder)
        if not files:
            continue
        try:
            found.append(_described(folder, files))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            failures.append(f"{files[0]}: must be a readable DICOM file, got {reason}")
    if not found and not failures:
        raise ValueError(f"{root}: must hold folders of DICOM files, got none with any")
    return found, failures


def _described(folder: Path, files: list[Path]) -> DicomSeries:
    header = pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=list(TAGS))
    texts = {name: str(header.get(name) or "").strip() for name in TAGS}
    return DicomSeries(
        folder=folder,
        patient_id=texts["PatientID"],
        series_uid=texts["SeriesInstanceUID"],
        study_date=texts["StudyDate"],
        modality=texts["Modality"],
        localizer="LOCALIZER" in (header.get("ImageType") or []),
    )
