from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from monai.bundle import ConfigParser
from monai.transforms import Compose

from bundles.__main__ import main
from bundles.bundle_config import BUNDLES_ROOT, merged_config
from cohorts import load_datalist

BUNDLE = "lung_ct_nodule_segmentation"
REAL_SCAN = Path(__file__).parents[3] / "shared/data/lidc1011/LIDC-IDRI-1011.nii.gz"
VOXEL_MM3 = 6.0**3


def _run_dir(trained: Path) -> Path:
    return next((trained / "runs" / BUNDLE).glob("train-*"))


@pytest.fixture(scope="module")
def marking(trained_segmenter: Path, datalist: Path) -> Path:
    """The trained weights with a head that marks every hundredth voxel: two epochs teach little."""
    run_dir = _run_dir(trained_segmenter)
    config = ConfigParser(merged_config([run_dir / "trained.yaml"]))
    content = config.get_parsed_content
    network = content("network_def").eval()
    network.load_state_dict(torch.load(run_dir / "model.pt", weights_only=True))
    weight, bias = network.head.weight.data, network.head.bias.data
    weight[:] = torch.linspace(-1, 1, weight.numel()).reshape(weight.shape)
    read = Compose([*content("read_scan"), *content("prepare_scan")])
    image = read({"image": load_datalist(datalist, "testing")[0]["image"]})["image"]
    bias -= float(np.quantile(content("segmenter")(image[None], network)["logits"], 0.99))
    path = trained_segmenter / "marking.pt"
    torch.save(network.state_dict(), path)
    return path


def _predict(trained: Path, output: str, *scans: Path | str, checkpoint: Path) -> list[dict]:
    places = ["--output", str(trained / output), "--checkpoint", str(checkpoint)]
    arguments = ["predict", BUNDLE, *places, "--set", "max_pictures=1", "--scans"]
    assert main([*arguments, *map(str, scans)]) == 0
    return json.loads((trained / output / "predictions.json").read_text())["scans"]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _voxels(path: Path | str) -> np.ndarray:
    volume: Any = nib.load(path)
    return np.asarray(volume.dataobj)


def test_training_leaves_weights_curves_pictures_and_one_tracked_run(
    trained_segmenter: Path,
) -> None:
    run_dir = _run_dir(trained_segmenter)
    files = {path.name for path in run_dir.iterdir()}
    assert {"model.pt", "last.pt", "config.yaml", "trained.yaml", "curves.png"} <= files
    assert list((run_dir / "pictures").glob("*.png"))
    history = json.loads((run_dir / "history.json").read_text())
    assert len(history) == 2
    assert all(0 < row["training"]["loss"] < 3 for row in history)
    assert 0 <= history[-1]["validation"]["dice"] <= 1
    client = MlflowClient(tracking_uri=f"sqlite:///{trained_segmenter}/mlflow.db")
    experiment = client.get_experiment_by_name(BUNDLE)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert "val_dice" in run.data.metrics and run.data.params["max_epochs"] == "2"
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"model.pt", "config.yaml", "curves.png", "pictures"} <= artifacts


def test_an_evaluation_is_of_the_masks_that_a_prediction_writes(
    trained_segmenter: Path, datalist: Path, marking: Path
) -> None:
    folder = trained_segmenter / "evaluation"
    evaluate = ["evaluate", BUNDLE, "--datalist", str(datalist), "--checkpoint", str(marking)]
    assert main([*evaluate, "--set", f"output_dir={folder}"]) == 0
    items = load_datalist(datalist, "testing")
    results = _predict(
        trained_segmenter, "judged", *(item["image"] for item in items), checkpoint=marking
    )
    report = json.loads((folder / "evaluation.json").read_text())
    nodules = sum(len(item["boxes"]) for item in items)
    assert (report["scans"], report["nodules"], report["failed"]) == (2, nodules, [])
    assert report["synthetic"] is True
    assert (folder / "nodules.png").is_file()
    rows = _rows(folder / "per_scan.csv")
    for row, item, result in zip(rows, items, results, strict=True):
        truth, found = _voxels(item["mask"]) > 0, _voxels(_mask_of(trained_segmenter, result)) > 0
        assert found.any() and row["patient_id"] == item["patient_id"]
        dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
        assert float(row["dice"]) == pytest.approx(dice, abs=1e-6)
        assert float(row["volume_mm3"]) == pytest.approx(truth.sum() * VOXEL_MM3)
        assert float(row["predicted_mm3"]) == pytest.approx(found.sum() * VOXEL_MM3)
        assert int(row["components"]) == result["nodules_in_mask"]
    summed = sum(float(row["summed_dice"]) for row in rows)
    assert report["metrics"]["dice"] == pytest.approx(summed / nodules, abs=1e-6)
    assert len(_rows(folder / "nodules.csv")) == nodules


def _mask_of(trained: Path, result: dict[str, Any], output: str = "judged") -> Path:
    return trained / output / result["mask_file"]


def test_a_prediction_is_on_the_scans_own_grid_and_measured(
    trained_segmenter: Path, datalist: Path, marking: Path
) -> None:
    item = load_datalist(datalist, "testing")[0]
    (result,) = _predict(trained_segmenter, "one", item["image"], checkpoint=marking)
    scan: Any = nib.load(item["image"])
    mask: Any = nib.load(_mask_of(trained_segmenter, result, "one"))
    assert mask.shape == scan.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    labels = np.asarray(mask.dataobj)
    assert np.unique(labels).tolist() == list(range(result["nodules_in_mask"] + 1))
    assert result["nodules"]
    for nodule in result["nodules"]:
        own = labels == nodule["number"]
        assert nodule["voxel_count_mm3"] == pytest.approx(own.sum() * VOXEL_MM3)
        middle = np.argwhere(own).mean(axis=0)
        centre = nib.affines.apply_affine(scan.affine, middle)
        np.testing.assert_allclose(nodule["centre_ras_mm"], centre, atol=0.01)
    folder = trained_segmenter / "one"
    assert matplotlib.image.imread(folder / result["nodules"][0]["picture"]).std() > 0.05
    alone = json.loads((folder / result["nodules_file"]).read_text())
    assert alone["frame"] == "LPS" and alone["nodules"] == result["nodules"]
    assert len(_rows(folder / "nodules.csv")) == len(result["nodules"])


def test_the_same_scan_in_other_orientations_has_the_same_mask(
    trained_segmenter: Path, datalist: Path, marking: Path
) -> None:
    scan: Any = nib.load(load_datalist(datalist, "testing")[0]["image"])
    # Slices of half the thickness: not the network's grid.
    thin = np.diag([1, 1, 0.5, 1.0])
    thin[2, 3] = -0.25
    voxels = np.repeat(np.asarray(scan.dataobj), 2, axis=2)
    scan = nib.Nifti1Image(voxels, scan.affine @ thin)
    paths = []
    for codes in ("RAS", "SLA", "PIR", "LIP"):
        target = nib.orientations.axcodes2ornt(codes)
        turn = nib.orientations.ornt_transform(nib.io_orientation(scan.affine), target)
        paths.append(trained_segmenter / f"{codes}.nii.gz")
        nib.save(scan.as_reoriented(turn), paths[-1])
    results = _predict(trained_segmenter, "turned", *paths, checkpoint=marking)
    masks = []
    for path, result in zip(paths, results, strict=True):
        turned: Any = nib.load(path)
        mask: Any = nib.load(_mask_of(trained_segmenter, result, "turned"))
        assert mask.shape == turned.shape
        np.testing.assert_array_equal(mask.affine, turned.affine)
        masks.append(np.asarray(nib.as_closest_canonical(mask).dataobj) > 0)
    assert masks[0].sum() > 20
    for mask in masks[1:]:
        assert (mask != masks[0]).mean() <= 1e-4


def test_a_scan_without_lungs_is_segmented_as_a_whole(
    trained_segmenter: Path, marking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.full((20, 22, 18), -1000, np.int16)
    hu[4:16, 4:16, 4:16] = 40
    path = trained_segmenter / "box.nii.gz"
    nib.save(nib.Nifti1Image(hu, np.diag([-6.0, 6, 6, 1])), path)
    (result,) = _predict(trained_segmenter, "box", path, checkpoint=marking)
    assert f"{path}: no lungs found, the whole scan is kept" in capsys.readouterr().out
    mask: Any = nib.load(_mask_of(trained_segmenter, result, "box"))
    assert mask.shape == hu.shape


def test_training_goes_on_where_it_stood(trained_segmenter: Path) -> None:
    run_dir = _run_dir(trained_segmenter)
    steps = torch.load(run_dir / "last.pt", weights_only=True)["trainer"]["iteration"]
    resume = ["train", BUNDLE, "--resume", str(run_dir / "last.pt"), "--set"]
    assert main([*resume, "max_epochs=3"]) == 0
    checkpoint = torch.load(run_dir / "last.pt", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == steps / 2 * 3
    history = json.loads((run_dir / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]


@pytest.mark.skipif(not REAL_SCAN.is_file(), reason="needs ../shared/data/lidc1011")
def test_a_whole_real_scan_gets_a_mask_of_its_own(trained_segmenter: Path) -> None:
    weights = _run_dir(trained_segmenter) / "model.pt"
    (result,) = _predict(trained_segmenter, "real", REAL_SCAN, checkpoint=weights)
    scan: Any = nib.load(REAL_SCAN)
    mask: Any = nib.load(_mask_of(trained_segmenter, result, "real"))
    assert mask.shape == scan.shape
    np.testing.assert_array_equal(mask.affine, scan.affine)


def test_monai_alone_trains_and_predicts(
    datalist: Path, segmenter_settings: list[str], tmp_path: Path
) -> None:
    """The commands of the bundle's page, from its folder."""
    places = ["--run_dir", str(tmp_path), "--data_list", str(datalist)]
    scan = load_datalist(datalist, "testing")[0]["image"]
    both = [f"--{part}" for part in segmenter_settings if part != "--set"]
    weights = [part for part in both if part.startswith(("--sp", "--tile", "--network"))]
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
    (result,) = json.loads((tmp_path / "results/predictions.json").read_text())["scans"]
    assert (tmp_path / "results" / result["mask_file"]).is_file()
