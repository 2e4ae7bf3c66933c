"""The check command on whole cohorts as the project makes them, sound and broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cohorts import (
    CohortSettings,
    MammogramSettings,
    ScannerSettings,
    make_cohort,
    make_mammograms,
    read_datalist,
)
from cohorts.check import main

SETTINGS = CohortSettings(
    training=1,
    validation=1,
    testing=1,
    seed=1,
    positive_fraction=1.0,
    clean_fraction=0.0,
    scanner=ScannerSettings(spacing_mm=(4.0, 4.0, 4.0)),
)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(SETTINGS, tmp_path_factory.mktemp("phantoms"), quiet=True)


def check(datalist: Path) -> int:
    return main([str(datalist), "--workers", "1"])


def results(captured: str) -> list[str]:
    """The last column of the table; the bar and the summary are no lines of it."""
    lines = [line for line in captured.splitlines() if line.split("  ")[0] != "split"]
    return [line.split("  ")[-1] for line in lines[:-1]]


def without_lungs(item: dict[str, Any]) -> None:
    del item["lungs"]


@pytest.mark.parametrize("change", [lambda item: None, without_lungs], ids=["as made", "from HU"])
def test_phantoms_are_sound(
    phantoms: Path, change: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    datalist = read_datalist(phantoms)
    for split in ("training", "validation", "testing"):
        for item in datalist[split]:
            change(item)
    path = phantoms.parent / "changed.json"
    path.write_text(json.dumps(datalist))
    assert check(path) == 0
    captured = capsys.readouterr()
    assert results(captured.out) == ["ok"] * 3
    assert captured.out.endswith("3 scans, 0 with an error\n") and "error" not in captured.err


def swap_side(item: dict[str, Any], folder: Path) -> None:
    item["side"] = {"left": "right", "right": "left"}[item["side"]]


def swap_side_without_lungs(item: dict[str, Any], folder: Path) -> None:
    swap_side(item, folder)
    del item["lungs"]


def move_boxes(item: dict[str, Any], folder: Path) -> None:
    item["boxes"] = [[box[0] + 4, *box[1:]] for box in item["boxes"]]


def cut_image(item: dict[str, Any], folder: Path) -> None:
    (folder / "cut.nii.gz").write_bytes((folder / item["image"]).read_bytes()[:-100])
    item["image"] = "cut.nii.gz"


def shift_values(item: dict[str, Any], folder: Path) -> None:
    image = nib.nifti1.load(folder / item["image"])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1024, image.affine), folder / "raw.nii.gz")
    item["image"] = "raw.nii.gz"


def take_another_mask(item: dict[str, Any], folder: Path) -> None:
    others = [path.name for path in sorted((folder / "masks").iterdir())]
    item["mask"] = f"masks/{next(name for name in others if name not in item['mask'])}"


def repeat_scan(item: dict[str, Any], folder: Path) -> None:
    item["image"] = read_datalist(folder / "datalist.json")["training"][0]["image"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swap_side, "side must be that of a malignant box"),
        (swap_side_without_lungs, "side must be that of a malignant box"),
        (move_boxes, "must be the extent of its instance"),
        (cut_image, "cut.nii.gz: must be readable and complete"),
        (shift_values, "raw.nii.gz: a chest CT in HU must hold air"),
        (take_another_mask, "the affine must be that of"),
        (repeat_scan, "image must be in one split"),
    ],
)
def test_a_broken_phantom_is_an_error(
    damage: Callable, message: str, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    datalist = read_datalist(phantoms)
    (item,) = datalist["testing"]
    assert item["side"] == "left"
    damage(item, phantoms.parent)
    path = phantoms.parent / "broken.json"
    path.write_text(json.dumps(datalist))
    assert check(path) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert results(captured.out)[:2] == ["ok"] * 2


def test_mammograms_are_sound_and_a_moved_mass_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_mammograms(MammogramSettings(training=2, validation=1, testing=1), tmp_path)
    capsys.readouterr()
    assert check(path) == 0
    captured = capsys.readouterr()
    assert results(captured.out) == ["ok"] * 4 and "error" not in captured.err
    datalist = read_datalist(path)
    item = next(item for item in datalist["training"] if item["boxes"])
    item["boxes"][0][0] += 5
    path.write_text(json.dumps(datalist))
    assert check(path) == 1
    assert "must be the extent of its instance 1" in capsys.readouterr().err
