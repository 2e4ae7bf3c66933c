"""The segmenter's 2D overlay, from images to masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bundles.__main__ import main
from cohorts import load_datalist

BUNDLE = "lung_ct_nodule_segmentation"


@pytest.fixture(scope="module")
def run_dir(mammograms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = {
        "spacing_mm": "[1.6, 1.6]",
        "patch_shape": "[64, 64]",
        "network_def::channels": "[4, 8, 8, 8]",
        "max_epochs": 4,
        "patches_per_scan": 2,
        "val_interval": 4,
        "learning_rate": 0.03,
        "cache_workers": 0,
        "run_dir": folder,
        "trackers": "[]",  # MLflow has tests of its own
    }
    settings = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    train = ["train", BUNDLE, "--overlay", "mammogram_2d", "--datalist", str(mammograms)]
    assert main([*train, *settings]) == 0
    return folder


def test_the_segmenter_learns_in_2d(run_dir: Path) -> None:
    losses = [row["training"]["loss"] for row in json.loads((run_dir / "history.json").read_text())]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert list((run_dir / "pictures").glob("*.png"))


def test_it_is_judged_in_2d(run_dir: Path, mammograms: Path) -> None:
    evaluate = ["evaluate", BUNDLE, "--run", str(run_dir), "--datalist", str(mammograms)]
    assert main(evaluate) == 0
    report = json.loads((run_dir / "evaluation" / "evaluation.json").read_text())
    boxes = sum(len(item["boxes"]) for item in load_datalist(mammograms, "testing"))
    assert (report["scans"], report["nodules"], report["failed"]) == (6, boxes, [])


def test_a_mask_is_on_the_images_own_grid(run_dir: Path, mammograms: Path) -> None:
    path = load_datalist(mammograms, "testing")[0]["image"]
    output = run_dir / "results"
    predict = ["predict", BUNDLE, "--run", str(run_dir), "--output", str(output), "--scans", path]
    assert main(predict) == 0
    (scan,) = json.loads((output / "predictions.json").read_text())["scans"]
    image: Any = nib.load(path)
    mask: Any = nib.load(output / scan["mask_file"])
    assert np.asarray(mask.dataobj).squeeze().shape == np.asarray(image.dataobj).squeeze().shape
    np.testing.assert_allclose(mask.affine[:2, :2], image.affine[:2, :2])
    assert np.asarray(mask.dataobj).max() == scan["nodules_in_mask"]
    for nodule in scan["nodules"]:
        assert len(nodule["centre_lps_mm"]) == 2 and len(nodule["box_voxel"]) == 4
        assert nodule["voxel_count_mm3"] is None
