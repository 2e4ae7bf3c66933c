from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cohorts.check import leakage, main
from cohorts.check_item import check_item

AFFINE = np.diag([-2.0, -2.0, 2.5, 1.0])
LESION = (slice(10, 14), slice(20, 23), slice(5, 9))
# Voxels 10 to 14, 20 to 23 and 5 to 9: centre at 11.5, 21 and 6.5.
BOX = [-23.0, -42.0, 16.25, 8.0, 6.0, 10.0]


def scan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A body with two lungs, low voxels the patient's right; the lesion lies in the right one."""
    hu = np.full((60, 48, 30), 40, np.int16)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[5:25, 8:40], lungs[35:55, 8:40] = 2, 1
    hu[lungs > 0] = -850
    mask = np.zeros(hu.shape, np.uint8)
    mask[LESION] = 1
    return hu, mask, lungs


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def item(name: str = "p1", **change: Any) -> dict[str, Any]:
    base = {"patient_id": name, "image": f"{name}.nii.gz", "mask": f"{name}-mask.nii.gz",
            "lungs": f"{name}-lungs.nii.gz", "boxes": [BOX], "box_labels": [1],
            "nodules": [{"instance": 1}], "risk": 1, "side": "right"}  # fmt: skip
    return {**base, **change}


@pytest.fixture
def cohort(tmp_path: Path) -> Callable[..., Path]:
    def write(training: list[dict], testing: list[dict] = ()) -> Path:  # type: ignore[assignment]
        for one in [*training, *testing]:
            hu, mask, lungs = scan()
            save(tmp_path / one["image"], hu)
            save(tmp_path / f"{one['patient_id']}-mask.nii.gz", mask)
            save(tmp_path / f"{one['patient_id']}-lungs.nii.gz", lungs)
        datalist = {"world_frame": "RAS", "box_mode": "cccwhd", "training": training,
                    "testing": list(testing)}  # fmt: skip
        path = tmp_path / "datalist.json"
        path.write_text(json.dumps(datalist))
        return path

    return write


def test_a_sound_cohort_passes(
    cohort: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    clean = item("p2", boxes=[], box_labels=[], risk=0, side="none")
    del clean["mask"], clean["nodules"], clean["lungs"]
    assert main([str(cohort([item()], [clean])), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["split", "patient", "shape", "spacing", "mm", "values", "boxes",
                                "result"]  # fmt: skip
    assert re.split(" {2,}", lines[1]) == [
        "training", "p1", "60x48x30", "2 x 2 x 2.5", "-850 to 40", "1", "ok"
    ]  # fmt: skip
    assert lines[2].split()[:2] == ["testing", "p2"]
    assert lines[3] == "2 scans, 0 with an error"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "gone.nii.gz"}, "gone.nii.gz: the file must exist"),
        ({"boxes": [[*BOX[:2], 900, 8, 6, 10]]}, "box 0 must lie inside the scan"),
        ({"boxes": [[*BOX[:2], -2, 8, 6, 10]], "nodules": [{}]}, "the centre of box 0 must lie"),
        ({"boxes": [[-25.0, *BOX[1:]]]}, "box 0 must be the extent of its instance 1"),
        ({"nodules": [{"instance": 2}]}, r"must hold the instances \[2\] of the boxes, got \[1\]"),
        ({"boxes": [], "box_labels": [], "nodules": []}, r"instances \[\] of the boxes, got \[1\]"),
        ({"side": "left"}, "side must be that of a malignant box, got left and the box"),
        ({"mask": "moved.nii.gz"}, "moved.nii.gz: the affine must be that of"),
        ({"lungs": "small.nii.gz"}, "small.nii.gz: the shape must be that of"),
        ({"image": "cut.nii.gz"}, "cut.nii.gz: must be readable and complete"),
        ({"image": "raw.nii.gz"}, "raw.nii.gz: a chest CT in HU must hold air below -500"),
    ],
)
def test_what_is_wrong_is_said(
    change: dict[str, Any], message: str, cohort: Callable[..., Path], tmp_path: Path
) -> None:
    cohort([item()])
    hu, mask, _ = scan()
    save(tmp_path / "moved.nii.gz", mask, AFFINE + np.diag([0, 0, 0.5, 0]))
    save(tmp_path / "small.nii.gz", mask[1:])
    save(tmp_path / "raw.nii.gz", hu + 1024)
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "p1.nii.gz").read_bytes()[:-50])
    report = check_item(item(**change), "training", tmp_path, spatial_dims=3)
    assert any(re.search(message, error) for error in report.errors), report.errors


def test_leakage_is_an_error(
    cohort: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(cohort([item("p1")], [item("p1")])), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("got p1 in training and testing") == 1
    assert "2 scans, 0 with an error" in captured.out
    # Another name for the same patient's scan.
    other = [item("p1"), item("p2")]
    lists = {"training": other[:1], "testing": [{**other[1], "image": "p1.nii.gz"}]}
    assert leakage(lists) == ["image must be in one split, got p1.nii.gz in training and testing"]


def test_a_wrong_scan_does_not_hide_the_next(
    cohort: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = cohort([item("p1"), item("p2")])
    (tmp_path / "p1.nii.gz").write_bytes(b"")
    assert main([str(path), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "2 scans, 1 with an error" in captured.out
    assert "error: p1: " in captured.err


@pytest.mark.parametrize("text", ["{", "[]", '{"world_frame": "RAS", "box_mode": "cccwhd"}'])
def test_what_is_no_datalist_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "datalist.json").write_text(text)
    assert main([str(tmp_path / "datalist.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
