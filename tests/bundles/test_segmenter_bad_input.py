"""Scans and masks that break a rule, and odd ones that do not, in whole runs of the segmenter."""

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

BUNDLE = "lung_ct_nodule_segmentation"
HEADER = {"world_frame": "RAS", "box_mode": "cccwhd", "synthetic": True, "name": "odd scans"}
SMALL = (20, 18, 12)  # voxels, as many as on the network's grid; a patch has 24 along each axis


@pytest.fixture(scope="module")
def odd(datalist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Items by what is odd about their scan or mask."""
    folder = tmp_path_factory.mktemp("odd")
    content = json.loads(datalist.read_text())
    items = [item for split in ("training", "validation", "testing") for item in content[split]]
    for item in items:
        item.update({key: str(datalist.parent / item[key]) for key in ("image", "mask")})
    kept = ("patient_id", "image", "mask", "risk", "boxes", "box_labels", "nodules")
    whole = {key: value for key, value in _first(items, True).items() if key in kept}
    free = {key: value for key, value in _first(items, False).items() if key in kept}
    scan, truth = (nib.load(whole[key]) for key in ("image", "mask"))
    assert isinstance(scan, nib.Nifti1Image) and isinstance(truth, nib.Nifti1Image)
    hu, labels, affine = np.asarray(scan.dataobj), np.asarray(truth.dataobj), scan.affine
    cut, moved = _cut(hu.shape, affine, whole["boxes"][0])
    first = (labels[cut] == whole["nodules"][0]["instance"]).astype(np.uint8)
    with_nan = hu.astype(np.float32)
    with_nan[3, 4, 5] = np.nan
    lungless = np.full_like(hu, -1000)
    lungless[15:45, 15:45, 10:40] = 40
    grey = np.interp(hu, [-1000, 400], [0, 255]).astype(np.int16)
    flat, lost = affine.copy(), affine.copy()
    flat[:3, 1], lost[1, 1] = 0, np.nan
    own = {
        "small": (hu[cut], moved),
        "small_mask": (first, moved),
        "nan": (with_nan, affine),
        "two_axes": (hu[:, :, 5], affine),
        "lungless": (lungless, affine),
        "grey": (grey, affine),
        "positive": (hu - hu.min(), affine),
        "other_shape": (labels[:-1], affine),
        "other_place": (labels, affine + np.eye(4)[:, [3, 0, 1, 2]] * 6),
        "empty_mask": (labels * 0, affine),
        "unlisted": (np.where(hu == hu.max(), 9, labels).astype(np.uint8), affine),
    }
    places = {name: str(folder / f"{name}.nii.gz") for name in (*own, "text", "flat", "lost")}
    for name, (array, its_affine) in own.items():
        nib.save(nib.Nifti1Image(array, its_affine), places[name])
    for name, its_affine in (("flat", flat), ("lost", lost)):
        _save_sform(hu, its_affine, places[name])
    Path(places["text"]).write_text("no scan")
    one = {key: whole[key][:1] for key in ("boxes", "box_labels")} | {"nodules": [{"instance": 1}]}
    bare = {"risk": 0, "boxes": [], "box_labels": []}
    scans = ("nan", "two_axes", "lungless", "grey", "positive", "text", "flat", "lost")
    masks = ("other_shape", "other_place", "empty_mask", "unlisted")
    return {
        "whole": {**whole, "patient_id": "whole"},
        "free": {**free, "patient_id": "free"},
        "small": {**whole, **one, "patient_id": "small", "image": places["small"],
                  "mask": places["small_mask"]},
        **{name: {**bare, "patient_id": name, "image": places[name]} for name in scans},
        **{name: {**whole, "patient_id": name, "mask": places[name]} for name in masks},
        "no_mask": {key: value for key, value in whole.items() if key != "mask"},
        "no_boxes": {**bare, "patient_id": "no_boxes", "image": whole["image"],
                     "mask": whole["mask"]},
    }  # fmt: skip


def _first(items: list[dict[str, Any]], has_nodule: bool) -> dict[str, Any]:
    return next(item for item in items if bool(item["boxes"]) == has_nodule)


def _cut(
    shape: tuple[int, ...], affine: np.ndarray, box_mm: list[float]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A part of a scan round a box, and the affine of the part."""
    centre = apply_affine(np.linalg.inv(affine), box_mm[:3])
    start = np.clip(centre.round().astype(int) - np.array(SMALL) // 2, 0, np.array(shape) - SMALL)
    moved = affine.copy()
    moved[:3, 3] = apply_affine(affine, start)
    return tuple(slice(a, a + size) for a, size in zip(start, SMALL, strict=True)), moved


def _save_sform(hu: np.ndarray, affine: np.ndarray, path: str) -> None:
    """With an affine that nibabel would not write by itself."""
    volume = nib.Nifti1Image(hu, np.eye(4))
    volume.header["qform_code"], volume.header["sform_code"] = 0, 1
    for axis, name in enumerate("xyz"):
        volume.header[f"srow_{name}"] = affine[axis]
    with nib.openers.Opener(path, "wb") as stream:
        stream.write(volume.header.binaryblock + b"\0" * 4 + hu.astype(np.int16).tobytes("F"))


def _write(path: Path, **splits: list[dict[str, Any]]) -> Path:
    """A datalist of the given items; a patient of several splits gets a name for each."""
    named = {
        split: [{**item, "patient_id": f"{item['patient_id']}-{split}"} for item in items]
        for split, items in splits.items()
    }
    path.write_text(json.dumps({**HEADER, **named}))
    return path


@pytest.mark.parametrize(
    ("scan", "sentence"),
    [
        ("other_shape", "{mask}: the shape must be that of {image}, got "),
        ("other_place", "{mask}: the affine must be that of {image}, got corners "),
        ("unlisted", "{mask}: the mask must hold 0 and the instances "),
        ("empty_mask", "{mask}: the mask must hold 0 and the instances "),
        ("no_mask", "{image}: a scan with nodules must have a mask in the datalist, got "),
        ("no_boxes", "{mask}: a mask with nodules must have their boxes in the datalist, got 0, 1"),
        ("nan", "{image}: all values must be finite, got 1 NaN"),
        ("two_axes", "{image}: the image must have 3 dimensions, got shape "),
        ("text", "{image}: must be readable and complete, got "),
        ("flat", "{image}: spacing must be above zero and finite, got 6 x 0 x 6 mm"),
        ("lost", "{image}: spacing must be above zero and finite, got 6 x nan x 6 mm"),
        ("grey", "{image}: a chest CT in HU must hold air below -500 and tissue above it, got "),
        ("positive", "{image}: a chest CT in HU must hold air below -500 and tissue above it"),
    ],
)
def test_training_refuses_what_breaks_a_rule_in_one_sentence(
    scan: str,
    sentence: str,
    odd: dict[str, dict[str, Any]],
    segmenter_settings: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _write(tmp_path / "datalist.json", training=[odd[scan]], validation=[odd["free"]])
    places = ["--datalist", str(path), "--set", f"run_dir={tmp_path / 'run'}"]
    train = ["train", BUNDLE, *segmenter_settings, "--set", "trackers=[]", *places]
    assert main(train) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert sentence.format(**odd[scan]) in error
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run_dir(
    odd: dict[str, dict[str, Any]],
    segmenter_settings: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A training of scans smaller than a patch, without a nodule and without lungs, validated on
    none with a nodule."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    path = _write(
        folder.parent / "datalist.json",
        training=[odd["small"], odd["free"], odd["lungless"]],
        validation=[odd["free"]],
        testing=[odd["small"], odd["nan"], odd["other_place"], odd["free"], odd["lungless"]],
    )
    places = ["--datalist", str(path), "--set", f"run_dir={folder}", "--set", "max_epochs=1"]
    assert main(["train", BUNDLE, *segmenter_settings, "--set", "trackers=[]", *places]) == 0
    yield folder


def test_odd_scans_train(run_dir: Path) -> None:
    (epoch,) = json.loads((run_dir / "history.json").read_text())
    assert 0 < epoch["training"]["loss"] < 3
    assert epoch["validation"]["dice"] is None
    assert (run_dir / "model.pt").is_file()


def test_a_training_without_any_nodule_runs(
    odd: dict[str, dict[str, Any]], segmenter_settings: list[str], tmp_path: Path
) -> None:
    path = _write(tmp_path / "datalist.json", training=[odd["free"]], validation=[odd["lungless"]])
    places = ["--datalist", str(path), "--set", f"run_dir={tmp_path}", "--set", "max_epochs=1"]
    assert main(["train", BUNDLE, *segmenter_settings, "--set", "trackers=[]", *places]) == 0
    (epoch,) = json.loads((tmp_path / "history.json").read_text())
    assert 0 < epoch["training"]["loss"] < 3


def test_a_bad_scan_does_not_lose_the_others_in_an_evaluation(
    run_dir: Path, odd: dict[str, dict[str, Any]]
) -> None:
    places = ["--run", str(run_dir), "--datalist", str(run_dir.parent / "datalist.json")]
    with pytest.raises(SystemExit, match=r"2 of 5 scans failed, the first: .*nan\.nii\.gz"):
        main(["evaluate", BUNDLE, *places])
    report = json.loads((run_dir / "evaluation/evaluation.json").read_text())
    assert (report["scans"], report["nodules"]) == (3, 1)
    assert ["finite" in failed["error"] for failed in report["failed"]] == [True, False]
    assert odd["other_place"]["mask"] in report["failed"][1]["error"]
    with (run_dir / "evaluation/per_scan.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = ["small-testing", "free-testing", "lungless-testing"]
    assert [row["patient_id"] for row in rows] == names


def test_scans_without_any_nodule_are_judged_by_their_false_components(run_dir: Path) -> None:
    places = ["--run", str(run_dir), "--datalist", str(run_dir.parent / "datalist.json")]
    output = run_dir.parent / "free"
    others = ["--set", "split=validation", "--set", f"output_dir={output}"]
    assert main(["evaluate", BUNDLE, *places, *others]) == 0
    report = json.loads((output / "evaluation.json").read_text())
    assert (report["scans"], report["nodules"], report["found"]) == (1, 0, 0)
    assert report["metrics"]["dice"] is None
    assert report["metrics"]["false_components_per_scan"] == report["false_components"]
    assert not (output / "nodules.png").exists()


def test_a_bad_scan_leaves_nothing_and_does_not_lose_the_others_in_a_prediction(
    run_dir: Path, odd: dict[str, dict[str, Any]]
) -> None:
    names = ("nan", "small", "two_axes", "free", "text", "flat", "lost", "grey", "lungless")
    scans = [odd[name]["image"] for name in names]
    output = run_dir.parent / "results"
    places = ["--run", str(run_dir), "--output", str(output)]
    with pytest.raises(SystemExit, match=r"6 of 9 scans failed, the first: .*nan\.nii\.gz"):
        main(["predict", BUNDLE, *places, "--set", "max_pictures=1", "--scans", *scans])
    report = json.loads((output / "predictions.json").read_text())
    assert [scan["scan"] for scan in report["scans"]] == [scans[1], scans[3], scans[8]]
    for scan in report["scans"]:
        mask, image = (nib.load(path) for path in (output / scan["mask_file"], scan["scan"]))
        assert mask.shape == image.shape  # type: ignore[attr-defined]
    assert len(report["failed"]) == 6
    for failed in report["failed"]:
        assert failed["scan"] in failed["error"] and len(failed["error"].splitlines()) == 1
        stem = Path(failed["scan"]).name.removesuffix(".nii.gz")
        assert not list(output.glob(f"{stem}_*"))
