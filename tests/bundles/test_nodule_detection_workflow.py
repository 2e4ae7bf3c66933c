from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from monai.bundle import ConfigParser

from bundles.__main__ import main
from bundles.bundle_config import BUNDLES_ROOT, bundle_configs, merged_config
from cohorts import load_datalist
from metrics.froc import main as froc

BUNDLE = "lung_ct_nodule_detection"
REAL_SCAN = Path(__file__).parents[3] / "shared/data/lidc1011/LIDC-IDRI-1011.nii.gz"


def _run_dir(trained: Path) -> Path:
    return next((trained / "runs" / BUNDLE).glob("train-*"))


def _predict(trained: Path, output: str, *scans: Path | str) -> list[dict]:
    arguments = ["predict", BUNDLE, "--output", str(trained / output), "--scans"]
    # Two epochs teach little: every box is a finding.
    every = ["--set", "min_finding_score=0", "--set", "min_score=0"]
    assert main([*arguments, *map(str, scans), *every]) == 0
    return json.loads((trained / output / "predictions.json").read_text())["scans"]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_training_leaves_weights_curves_pictures_and_one_tracked_run(
    trained_detector: Path,
) -> None:
    run_dir = _run_dir(trained_detector)
    files = {path.name for path in run_dir.iterdir()}
    assert {"model.pt", "last.pt", "config.yaml", "trained.yaml", "curves.png"} <= files
    history = json.loads((run_dir / "history.json").read_text())
    terms = {"loss", "box_p_loss", "centre_loss", "size_loss", "positive_cells"}
    assert terms <= set(history[0]["training"])
    assert "cpm" in history[0]["validation"]
    client = MlflowClient(tracking_uri=f"sqlite:///{trained_detector}/mlflow.db")
    experiment = client.get_experiment_by_name(BUNDLE)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "val_cpm" in run.data.metrics and run.data.params["max_epochs"] == "2"
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"model.pt", "config.yaml", "curves.png", "pictures"} <= artifacts


def test_the_network_takes_and_gives_what_the_metadata_says() -> None:
    configs = bundle_configs(BUNDLE)
    data_format = json.loads((configs / "metadata.json").read_text())["network_data_format"]
    entry, result = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    shape = [int(size.removesuffix("*n")) * 2 for size in entry["spatial_shape"]]
    config = ConfigParser(merged_config([configs / "common.yaml"]))
    network = config.get_parsed_content("network_def").eval()
    with torch.no_grad():
        outputs = network(torch.rand(1, entry["num_channels"], *shape))
    for level, stride in enumerate(config.get_parsed_content("level_strides")):
        maps = [outputs[name][level] for name in ("logits", "offsets", "log_sizes")]
        assert sum(map_.shape[1] for map_ in maps) == result["num_channels"]
        cells = [size // step for size, step in zip(shape, stride, strict=True)]
        assert all(list(map_.shape[2:]) == cells for map_ in maps)


def test_evaluation_agrees_with_the_froc_command(
    trained_detector: Path, datalist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", BUNDLE, "--datalist", str(datalist), "--set", "min_score=0"]
    assert main(evaluate) == 0
    folder = _run_dir(trained_detector) / "evaluation"
    report = json.loads((folder / "evaluation.json").read_text())
    nodules = sum(len(item["boxes"]) for item in load_datalist(datalist, "testing"))
    assert (report["scans"], report["nodules"], report["synthetic"]) == (2, nodules, True)
    assert len(_rows(folder / "per_scan.csv")) == 2
    capsys.readouterr()
    files = {
        "annotations": "annotations.csv",
        "excluded": "excluded.csv",
        "seriesuids": "seriesuids.csv",
        "submission": "marks.csv",
    }
    arguments = [part for key, name in files.items() for part in (f"--{key}", str(folder / name))]
    assert froc(arguments) == 0
    cpm = float(capsys.readouterr().out.splitlines()[-1].split()[1])
    assert cpm == pytest.approx(report["metrics"]["cpm"], abs=1e-6)


def test_prediction_needs_no_truth_and_names_its_frame(
    trained_detector: Path, datalist: Path
) -> None:
    item = load_datalist(datalist, "testing")[0]
    (result,) = _predict(trained_detector, "one", item["image"])
    assert result["findings"]
    volume = nib.load(item["image"])
    assert isinstance(volume, nib.Nifti1Image)
    for finding in result["findings"]:
        low, high = np.reshape(finding["box_voxel"], (2, 3))
        # Edges of voxels, of which the affine knows the middles.
        centre = nib.affines.apply_affine(volume.affine, (low + high) / 2 - 0.5)
        np.testing.assert_allclose(centre, finding["centre_ras_mm"], atol=0.01)
        flipped = np.array(finding["centre_lps_mm"]) * [-1, -1, 1]
        np.testing.assert_allclose(flipped, finding["centre_ras_mm"], atol=1e-6)
    picture = matplotlib.image.imread(trained_detector / "one" / result["findings"][0]["picture"])
    assert picture.std() > 0.05
    own = json.loads((trained_detector / "one" / result["findings_file"]).read_text())
    assert own["frame"] == "LPS" and own["findings"] == result["findings"]


def test_the_same_scan_in_other_orientations_has_the_same_findings(
    trained_detector: Path, datalist: Path
) -> None:
    scan = nib.load(load_datalist(datalist, "testing")[0]["image"])
    assert isinstance(scan, nib.Nifti1Image)
    paths = []
    for codes in ("RAS", "SLA", "PIR"):
        target = nib.orientations.axcodes2ornt(codes)
        turn = nib.orientations.ornt_transform(nib.io_orientation(scan.affine), target)
        paths.append(trained_detector / f"{codes}.nii.gz")
        nib.save(scan.as_reoriented(turn), paths[-1])
    results = _predict(trained_detector, "turned", *paths)
    first, *others = (
        np.array([finding["box_ras_mm"] for finding in result["findings"][:5]])
        for result in results
    )
    for other in others:
        np.testing.assert_allclose(other, first, atol=0.05)


def test_training_goes_on_with_the_same_next_step(
    trained_detector: Path, tmp_path: Path, datalist: Path, detector_settings: list[str]
) -> None:
    run_dir = _run_dir(trained_detector)
    resume = ["train", BUNDLE, "--resume", str(run_dir / "last.pt"), "--set"]
    assert main([*resume, "max_epochs=3"]) == 0
    checkpoint = torch.load(run_dir / "last.pt", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == 12
    history = json.loads((run_dir / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]


@pytest.mark.parametrize("rung", ["global_box", "single_scale", "hard_negatives", "giou"])
def test_every_rung_trains_and_is_judged(
    rung: str,
    trained_detector: Path,
    datalist: Path,
    detector_settings: list[str],
    tmp_path: Path,
) -> None:
    places = ["--set", f"run_dir={tmp_path}", "--set", "max_epochs=1"]
    # Shapes of network and tiles are the rung's own.
    own = [part for part in detector_settings if part != "--set"]
    if rung == "global_box":
        own = [part for part in own if not part.startswith(("tile_shape", "tile_margin", "patch"))]
    if rung == "single_scale":
        own = [part for part in own if not part.startswith("network_def::strides")]
        own = [part.replace("tile_stride=[8, 8, 8]", "tile_stride=[8, 8, 4]") for part in own]
    settings = [part for setting in own for part in ("--set", setting)]
    train = ["train", BUNDLE, "--overlay", rung, "--datalist", str(datalist)]
    assert main([*train, *settings, *places]) == 0
    assert main(["evaluate", BUNDLE, "--run", str(tmp_path), "--datalist", str(datalist)]) == 0
    report = json.loads((tmp_path / "evaluation/evaluation.json").read_text())
    assert report["scans"] == 2 and report["failed"] == []


@pytest.mark.skipif(not REAL_SCAN.is_file(), reason="needs ../shared/data/lidc1011")
def test_a_whole_real_scan_is_predicted(trained_detector: Path) -> None:
    (result,) = _predict(trained_detector, "real", REAL_SCAN)
    for finding in result["findings"]:
        low, high = np.reshape(finding["box_voxel"], (2, 3))
        assert ((low + high) / 2 >= 0).all() and ((low + high) / 2 <= (512, 512, 133)).all()


def test_monai_alone_trains_and_predicts(
    datalist: Path, detector_settings: list[str], tmp_path: Path
) -> None:
    """The commands of the bundle's page, from its folder."""
    places = ["--run_dir", str(tmp_path), "--data_list", str(datalist)]
    scan = load_datalist(datalist, "testing")[0]["image"]
    both = [f"--{part}" for part in detector_settings if part != "--set"]
    weights = [part for part in both if part.startswith(("--sp", "--tile", "--lung", "--network"))]
    applied = ["--scans", scan, "--output_dir", str(tmp_path / "results")]
    for workflow, options in (
        ("train", [*both, "--max_epochs", "1"]),
        ("inference", [*weights, *applied]),
    ):
        files = f"['configs/common.yaml','configs/{workflow}.yaml']"
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files]
        extra = ["--meta_file", "configs/metadata.json", "--logging_file", "configs/logging.conf"]
        subprocess.run(
            [*command, *extra, *places, *options],
            cwd=BUNDLES_ROOT / BUNDLE,
            check=True,
            capture_output=True,
        )
    assert len(json.loads((tmp_path / "results/predictions.json").read_text())["scans"]) == 1
