"""Scans and boxes that break a rule, and odd ones that do not, in whole runs of the detector."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from bundles.__main__ import main

BUNDLE = "lung_ct_nodule_detection"
HEADER = {"world_frame": "RAS", "box_mode": "cccwhd", "synthetic": True, "name": "odd scans"}
SMALL = (20, 18, 12)  # voxels, as many as on the network's grid; a patch has 32 along each axis


@pytest.fixture(scope="module")
def odd(datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Items by what is odd about their scan."""
    folder = tmp_path_factory.mktemp("odd")
    content = json.loads(datalist.read_text())
    items = [item for split in ("training", "validation", "testing") for item in content[split]]
    items = [{**item, "image": str(datalist.parent / item["image"])} for item in items]
    kept = ("patient_id", "image", "risk", "boxes", "box_labels")
    items = [{key: item[key] for key in kept} for item in items]
    whole = next(item for item in items if item["boxes"])
    scan = nib.load(whole["image"])
    assert isinstance(scan, nib.Nifti1Image)
    voxels, affine = np.asarray(scan.dataobj), scan.affine
    centre = apply_affine(np.linalg.inv(affine), whole["boxes"][0][:3])
    start = np.clip(centre.round().astype(int) - np.array(SMALL) // 2, 0, None)
    start = np.minimum(start, np.array(voxels.shape) - SMALL)
    cut = tuple(slice(first, first + size) for first, size in zip(start, SMALL, strict=True))
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, start)
    with_nan = voxels.astype(np.float32)
    with_nan[3, 4, 5] = np.nan
    for name, array, its_affine in (
        ("small", voxels[cut], moved),
        ("nan", with_nan, affine),
        ("flat", voxels[:, :, 5], affine),
    ):
        nib.save(nib.Nifti1Image(array, its_affine), folder / f"{name}.nii.gz")
    (folder / "text.nii.gz").write_text("no scan")
    own = {name: str(folder / f"{name}.nii.gz") for name in ("small", "nan", "flat", "text")}
    bare = {"patient_id": "free", "risk": 0, "boxes": [], "box_labels": []}
    one = {"boxes": whole["boxes"][:1], "box_labels": whole["box_labels"][:1]}
    return {
        "whole": {**whole, "patient_id": "whole"},
        "free": {**bare, "image": next(item["image"] for item in items if not item["boxes"])},
        "small": {**whole, **one, "patient_id": "small", "image": own["small"]},
        **{name: {**bare, "patient_id": name, "image": own[name]} for name in ("nan", "flat")},
        "text": {**bare, "patient_id": "text", "image": own["text"]},
    }


def _write(path: Path, **splits: list[dict[str, Any]]) -> Path:
    """A datalist of the given items; a patient of several splits gets a name for each."""
    named = {
        split: [{**item, "patient_id": f"{item['patient_id']}-{split}"} for item in items]
        for split, items in splits.items()
    }
    path.write_text(json.dumps({**HEADER, **named}))
    return path


BOX = [0.0, 0.0, 0.0, 9.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("scan", "values", "sentence"),
    [
        ("whole", {"boxes": [[900, *BOX[1:]]]}, "{image}: box 0 must lie inside the scan"),
        ("whole", {"boxes": [[*BOX[:3], 9, 0, 9]]}, "must have sizes above 0, got [0.0, 0.0, 0.0,"),
        ("whole", {"boxes": [[*BOX[:3], 9, -9, 9]]}, "above 0, got [0.0, 0.0, 0.0, 9, -9, 9]"),
        ("whole", {"boxes": [BOX[:4]]}, "must be six finite numbers (cccwhd), got [0.0, 0.0,"),
        ("whole", {"boxes": [BOX, BOX]}, "must have the same length, got 2, 1 and 0"),
        ("whole", {"image": "none.nii.gz"}, "image of whole-training must exist, got none.nii.gz"),
        ("nan", {}, "{image}: all values must be finite, got 1 NaN"),
        ("flat", {}, "{image}: the image must have 3 dimensions, got shape (60, 60)"),
        ("text", {}, "{image}: must be readable and complete, got "),
    ],
    ids=["outside", "zero", "reversed", "four", "labels", "missing", "nan", "flat", "text"],
)
def test_training_refuses_what_breaks_a_rule_in_one_sentence(
    scan: str,
    values: dict[str, Any],
    sentence: str,
    odd: dict[str, dict[str, Any]],
    detector_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    bad = {**odd[scan], **({"box_labels": [0], "risk": 0} if "boxes" in values else {}), **values}
    path = _write(tmp_path / "datalist.json", training=[bad], validation=[odd["free"]])
    places = ["--datalist", str(path), "--set", f"run_dir={tmp_path / 'run'}"]
    assert main(["train", BUNDLE, *detector_settings, *places]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert sentence.format(**bad) in error
    assert bad["image"] in error or str(path) in error
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run_dir(
    odd: dict[str, dict[str, Any]],
    detector_settings: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A training of scans that are smaller than a patch, validated on none with a nodule."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    path = _write(
        folder.parent / "datalist.json",
        training=[odd["small"], odd["free"]],
        validation=[odd["free"]],
        testing=[odd["small"], odd["nan"], odd["free"]],
    )
    settings = [*detector_settings, "--set", "network_def::feature_channels=8"]
    places = ["--datalist", str(path), "--set", f"run_dir={folder}", "--set", "max_epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent}/mlflow.db")
        assert main(["train", BUNDLE, *settings, *places]) == 0
        yield folder


def test_scans_smaller_than_a_patch_or_without_a_box_train(run_dir: Path) -> None:
    (epoch,) = json.loads((run_dir / "history.json").read_text())
    assert epoch["training"]["positive_cells"] > 0
    assert epoch["validation"]["cpm"] is None
    assert (run_dir / "model.pt").is_file()


def test_a_bad_scan_does_not_lose_the_others_in_an_evaluation(
    run_dir: Path, odd: dict[str, dict[str, Any]]
) -> None:
    places = ["--run", str(run_dir), "--datalist", str(run_dir.parent / "datalist.json")]
    with pytest.raises(SystemExit, match=r"1 of 3 scans failed, the first: .*nan\.nii\.gz"):
        main(["evaluate", BUNDLE, *places, "--set", "min_score=0"])
    report = json.loads((run_dir / "evaluation/evaluation.json").read_text())
    assert (report["scans"], report["nodules"], report["lost_boxes"]) == (2, 1, 0)
    (failed,) = report["failed"]
    assert odd["nan"]["image"] in failed["scan"] and "finite" in failed["error"]
    with (run_dir / "evaluation/per_scan.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["patient_id"] for row in rows] == ["small-testing", "free-testing"]


def test_scans_without_any_nodule_are_judged_by_their_false_marks(run_dir: Path) -> None:
    places = ["--run", str(run_dir), "--datalist", str(run_dir.parent / "datalist.json")]
    output = run_dir.parent / "free"
    others = ["--set", "split=validation", "--set", f"output_dir={output}", "--set", "min_score=0"]
    assert main(["evaluate", BUNDLE, *places, *others]) == 0
    report = json.loads((output / "evaluation.json").read_text())
    assert (report["scans"], report["nodules"]) == (1, 0)
    assert report["metrics"]["cpm"] is None
    assert report["counts"]["true"] == 0 and report["counts"]["false"] == report["marks"]


def test_a_bad_scan_does_not_lose_the_others_in_a_prediction(
    run_dir: Path, odd: dict[str, dict[str, Any]]
) -> None:
    names = ("nan", "small", "flat", "free", "text")
    scans = [odd[name]["image"] for name in names]
    output = run_dir.parent / "results"
    places = ["--run", str(run_dir), "--output", str(output)]
    every = ["--set", "min_score=0", "--set", "min_finding_score=0", "--set", "max_pictures=1"]
    with pytest.raises(SystemExit, match=r"3 of 5 scans failed, the first: .*nan\.nii\.gz"):
        main(["predict", BUNDLE, *places, *every, "--scans", *scans])
    report = json.loads((output / "predictions.json").read_text())
    assert [scan["scan"] for scan in report["scans"]] == [scans[1], scans[3]]
    for scan in report["scans"]:
        assert scan["findings"] and (output / scan["findings"][0]["picture"]).is_file()
    small = report["scans"][0]["findings"]
    middles = np.array([finding["box_voxel"] for finding in small]).reshape(-1, 2, 3).mean(axis=1)
    assert (middles >= 0).all() and (middles <= SMALL).all()  # and not in what was padded
    assert [failed["scan"] for failed in report["failed"]] == [scans[0], scans[2], scans[4]]
    for failed in report["failed"]:
        assert failed["scan"] in failed["error"] and len(failed["error"].splitlines()) == 1
