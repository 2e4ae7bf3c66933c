from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from cohorts.datalist import SPLITS, read_datalist
from cohorts.dicom_study import main

TILT_DEGREES = 10.0


def hu(slices: int) -> np.ndarray:
    """Every slice has its own tissue, so that their order shows."""
    values = np.full((32, 24, slices), -1000, np.int16)
    values[:16] = 10 + np.arange(slices)
    return values


@pytest.fixture
def studies(tmp_path: Path, write_dicom: Callable[..., list[str]]) -> Path:
    """One patient's study in one flat folder with its other series, another in folders."""
    root = tmp_path / "studies"
    flat = root / "flat"
    flat.mkdir(parents=True)
    sagittal = [0, 1, 0, 0, 0, -1]
    series: dict[str, dict[str, Any]] = {
        "1.1": {"SeriesDescription": "thin", "hu": hu(12)},
        "1.2": {"SeriesDescription": "few", "hu": hu(9)},
        "1.3": {"SeriesDescription": "scout", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "1.4": {"SeriesDescription": "PET", "Modality": "PT"},
        "1.5": {"SeriesDescription": "sagittal", "ImageOrientationPatient": sagittal},
        "1.6": {"SeriesDescription": "same", "hu": hu(11)},
    }
    for uid, header in series.items():
        write_dicom(tmp_path / uid, uid, **header)
        for file in (tmp_path / uid).iterdir():
            file.rename(flat / f"{uid}-{file.name}")
        (tmp_path / uid).rmdir()
    write_dicom(root / "P2/st/se", "2.1", hu(12), PatientID="P2", StudyInstanceUID="2",
                RescaleSlope=2, RescaleIntercept=-1000)  # fmt: skip
    return root


def command(studies: Path, *options: str) -> int:
    output = studies.parent / "out"
    return main(["--input", str(studies), "--output", str(output), "--workers", "1", *options])


def items(studies: Path) -> dict[str, dict]:
    datalist = read_datalist(studies.parent / "out" / "datalist.json")
    return {item["patient_id"]: item for split in SPLITS for item in datalist[split]}


def values(studies: Path, item: dict) -> np.ndarray:
    return np.asarray(nib.nifti1.load(studies.parent / "out" / item["image"]).dataobj)


def test_the_best_series_of_each_study_is_converted(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(studies) == 0
    first, second = items(studies)["P1"], items(studies)["P2"]
    assert first["series_uid"] == "1.1"
    assert first["gantry_tilt_degrees"] == 0
    np.testing.assert_array_equal(values(studies, first), hu(12))
    np.testing.assert_array_equal(values(studies, second), hu(12) * 2 - 1000)
    listed = capsys.readouterr().out
    for reason in ("few, 9 files: fewer than 10 slices", "scout, 6 files: a localizer",
                   "PET, 6 files: no CT, but PT", "sagittal, 6 files: not axial",
                   "same, 11 files: 1.1 is used"):  # fmt: skip
        assert reason in listed
    assert not read_datalist(studies.parent / "out" / "datalist.json")["knows_cancer"]


def test_a_tilted_gantry_is_measured(studies: Path) -> None:
    angle = np.radians(TILT_DEGREES)
    for file in (studies / "P2/st/se").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, np.cos(angle), np.sin(angle)]
        dataset.save_as(file)
    assert command(studies) == 0
    assert items(studies)["P2"]["gantry_tilt_degrees"] == TILT_DEGREES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "slices must be evenly spaced (2.000 mm), got a gap of 4.000 mm"),
        ("twice", "every slice must have its own position"),
        ("cut", "must be a readable DICOM file"),
        ("start", "1.1-1-95.dcm: a .dcm file must hold DICOM, got something else"),
        ("pixels", "its pixels must be readable"),
        ("patient", "PatientID must be given, got none"),
    ],
)
def test_a_study_that_fails_costs_only_itself(
    change: str, message: str, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = studies / "flat" / "1.1-1-95.dcm"
    if change == "missing":
        file.unlink()
    elif change == "twice":
        shutil.copy(file, studies / "flat" / "copy.dcm")
    elif change == "patient":
        for one in (studies / "flat").glob("1.1-*"):
            dataset = pydicom.dcmread(one)
            dataset.PatientID = ""
            dataset.save_as(one)
    else:
        kept = {"start": 100, "cut": 140, "pixels": -9}[change]
        file.write_bytes(file.read_bytes()[:kept])
    assert command(studies) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(studies / "flat") in error
    assert "P2" in items(studies)


def test_labels_come_from_a_table(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = studies.parent / "labels.csv"
    table.write_text(
        "patient_id,risk,side,years_to_diagnosis,censoring_years\nP1,1,left,0.5,2\nP2,0,,,3\n"
    )
    assert command(studies, "--labels", str(table)) == 0
    first, second = items(studies)["P1"], items(studies)["P2"]
    assert (first["risk"], first["side"], first["years_to_diagnosis"]) == (1, "left", 0.5)
    assert (second["risk"], second["side"], second["censoring_years"]) == (0, "none", 3)
    assert read_datalist(studies.parent / "out" / "datalist.json")["knows_cancer"]
    for row, message in (
        ("P1,2,,,", "row 2: risk must be 0 or 1, got '2'"),
        ("P1,1,none,,", "row 2: side must be one of"),
        ("P9,1,,,", "a study must have a row, got none for P1"),
    ):
        table.write_text(
            f"patient_id,risk,side,years_to_diagnosis,censoring_years\n{row}\nP2,0,,,\n"
        )
        assert command(studies, "--labels", str(table)) == 1
        assert message in capsys.readouterr().err


def test_without_dicom_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "studies").mkdir()
    assert command(tmp_path / "studies") == 1
    assert capsys.readouterr().err.endswith("must hold DICOM files, got none\n")
