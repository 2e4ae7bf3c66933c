from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gdcm
import nibabel as nib
import numpy as np
import pytest

from cohorts.dicom_study import main

SYNTAXES = (
    gdcm.TransferSyntax.RLELossless,
    gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    gdcm.TransferSyntax.JPEGLSLossless,
    gdcm.TransferSyntax.JPEG2000Lossless,
)


def chest(slices: int) -> np.ndarray:
    hu = np.random.default_rng(slices).integers(-1024, -700, (32, 24, slices))
    hu[:16] = 40
    return hu


def test_compressed_studies_are_converted_and_a_damaged_one_is_named(
    tmp_path: Path,
    write_dicom: Callable[..., list[str]],
    compress_dicom: Callable[[Path, int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for number, syntax in enumerate(SYNTAXES):
        uids = {"StudyInstanceUID": f"1.2.{number}", "PatientID": f"P{number}"}
        write_dicom(source / str(number), f"1.3.{number}", chest(12 + number), **uids)
        for file in (source / str(number)).iterdir():
            compress_dicom(file, syntax)
    damaged = source / "3" / "1-97.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    command = ["--input", str(source), "--output", str(output), "--workers", "1"]
    assert main(command) == 1
    error = capsys.readouterr().err
    errors = [line for line in error.splitlines() if str(damaged) in line]
    assert errors and "must hold its pixels to the end" in errors[-1]
    datalist = json.loads((output / "datalist.json").read_text())
    items = [item for split in ("training", "validation", "testing") for item in datalist[split]]
    assert sorted(item["patient_id"] for item in items) == ["P0", "P1", "P2"]
    for item in items:
        image = nib.nifti1.load(output / item["image"])
        # NIfTI rises where DICOM's columns and rows do, and z with the slices.
        assert np.array_equal(np.asarray(image.dataobj), chest(12 + int(item["patient_id"][1:])))
