"""The detector's 2D overlay, from images to findings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundles.__main__ import main
from cohorts import load_datalist

BUNDLE = "lung_ct_nodule_detection"


@pytest.fixture(scope="module")
def run_dir(mammograms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = {
        "spacing_mm": "[1.6, 1.6]",
        "patch_shape": "[64, 64]",
        "network_def::channels": "[4, 8, 8, 8]",
        "network_def::feature_channels": 8,
        "max_epochs": 9,
        "patches_per_scan": 2,
        "val_interval": 3,
        "learning_rate": 0.01,
        "cache_workers": 0,
        "run_dir": folder,
    }
    settings = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent}/mlflow.db")
        train = ["train", BUNDLE, "--overlay", "mammogram_2d", "--datalist", str(mammograms)]
        assert main([*train, *settings]) == 0
    return folder


def test_the_detector_learns_in_2d(run_dir: Path) -> None:
    losses = [row["training"]["loss"] for row in json.loads((run_dir / "history.json").read_text())]
    assert len(losses) == 9
    assert losses[-1] < 0.8 * losses[0]
    assert list((run_dir / "pictures").glob("*.png"))


def test_it_is_judged_in_2d(run_dir: Path, mammograms: Path) -> None:
    evaluate = ["evaluate", BUNDLE, "--run", str(run_dir), "--datalist", str(mammograms)]
    assert main(evaluate) == 0
    report = json.loads((run_dir / "evaluation" / "evaluation.json").read_text())
    boxes = sum(len(item["boxes"]) for item in load_datalist(mammograms, "testing"))
    assert (report["scans"], report["nodules"], report["failed"]) == (6, boxes, [])


def test_a_finding_has_two_coordinates(run_dir: Path, mammograms: Path) -> None:
    image = load_datalist(mammograms, "testing")[0]["image"]
    output = run_dir / "results"
    predict = ["predict", BUNDLE, "--run", str(run_dir), "--output", str(output), "--scans", image]
    assert main([*predict, "--set", "min_score=0", "--set", "min_finding_score=0"]) == 0
    (scan,) = json.loads((output / "predictions.json").read_text())["scans"]
    assert scan["findings"]
    for finding in scan["findings"]:
        assert len(finding["centre_lps_mm"]) == 2 and len(finding["box_voxel"]) == 4
    assert (output / scan["findings"][0]["picture"]).is_file()
