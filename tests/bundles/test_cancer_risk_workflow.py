from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from bundles.__main__ import main
from bundles.bundle_config import BUNDLES_ROOT

BUNDLE = "lung_ct_cancer_risk"
REAL_SCAN = Path(__file__).parents[3] / "shared/data/lidc1011/LIDC-IDRI-1011.nii.gz"


def _run_dir(trained: Path) -> Path:
    return next((trained / "runs" / BUNDLE).glob("train-*"))


def _predict(trained: Path, output: str, *scans: Path | str) -> int:
    arguments = ["predict", BUNDLE, "--output", str(trained / output), "--scans"]
    return main([*arguments, *map(str, scans)])


def _tracked(store: str) -> tuple[MlflowClient, Run]:
    """The one run of a store."""
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(BUNDLE)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def _volume(path: Path) -> nib.Nifti1Image:
    volume = nib.load(path)
    assert isinstance(volume, nib.Nifti1Image)
    return volume


def _items(datalist: Path, split: str) -> list[dict]:
    return json.loads(datalist.read_text())[split]


def test_training_leaves_weights_curves_and_one_tracked_run(trained: Path) -> None:
    files = {path.name for path in _run_dir(trained).iterdir()}
    assert {"model.pt", "last.pt", "config.yaml", "trained.yaml", "curves.png"} <= files
    client, run = _tracked(f"sqlite:///{trained}/mlflow.db")
    assert run.info.status == "FINISHED"
    terms = {"loss", "risk_loss", "box_loss", "side_loss"}
    for phase in ("train", "val"):
        assert {f"{phase}_{term}" for term in terms} <= set(run.data.metrics)
    assert run.data.params["max_epochs"] == "2"
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"model.pt", "config.yaml", "curves.png"} <= artifacts


def test_training_goes_on_where_it_stopped_under_its_own_settings(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = _run_dir(trained)
    settings = (run_dir / "trained.yaml").read_bytes()
    resume = ["train", BUNDLE, "--resume", str(run_dir / "last.pt"), "--set"]
    assert main([*resume, "spacing_mm=[3, 3, 3]"]) == 1
    assert "must keep the settings of its weights, got spacing_mm" in capsys.readouterr().err
    assert main([*resume, "max_epochs=3"]) == 0
    checkpoint = torch.load(run_dir / "last.pt", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == 6
    history = json.loads((run_dir / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert (run_dir / "trained.yaml").read_bytes() == settings


def test_evaluation_reports_numbers_and_each_scan(trained: Path, datalist: Path) -> None:
    assert main(["evaluate", BUNDLE, "--datalist", str(datalist)]) == 0
    folder = _run_dir(trained) / "evaluation"
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["scans"] == 2
    assert report["synthetic"] is True
    assert (folder / "per_scan.csv").read_text().count("\n") == 3
    # Two validation scans allow no calibration; Brier score and ECE are of the risk as it comes.
    assert not (_run_dir(trained) / "calibration.json").exists()
    assert (report["calibrated"], report["screening"]) == (False, None)
    assert {"brier", "ece"} <= set(report["metrics"])
    assert not [name for name in report["metrics"] if "calibrated" in name]


def test_a_cancer_that_the_crop_to_the_lungs_loses_is_counted(
    trained: Path, datalist: Path, tmp_path: Path
) -> None:
    content = json.loads(datalist.read_text())
    (ill,) = [item for item in content["testing"] if item["risk"]]
    ill.update(boxes=[[150.0, 0.0, 0.0, 12.0, 12.0, 12.0]], box_labels=[1], nodules=[{}])
    lost = datalist.with_name("lost.json")
    lost.write_text(json.dumps(content))
    output = f"output_dir={tmp_path}"
    assert main(["evaluate", BUNDLE, "--datalist", str(lost), "--set", output]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert (report["lost_boxes"], report["failed"]) == (1, [])
    assert report["metrics"]["lesion_scans"] == 0
    assert "attention_mass" not in report["metrics"]
    assert report["metrics"]["peak_distance_mm"] > 0


def test_prediction_needs_no_truth_and_keeps_the_scans_geometry(
    trained: Path, datalist: Path
) -> None:
    scan = datalist.parent / _items(datalist, "testing")[0]["image"]
    assert _predict(trained, "one", scan) == 0
    report = json.loads((trained / "one" / "predictions.json").read_text())
    (result,) = report["scans"]
    assert 0 < result["risk"] < 1
    assert (result["risk"], report["calibrated"]) == (result["raw_risk"], False)
    assert report["failed"] == []
    source, attention = _volume(scan), _volume(trained / "one" / result["attention"])
    assert attention.shape == source.shape
    np.testing.assert_allclose(attention.affine, source.affine, atol=1e-5)
    assert (trained / "one" / result["overlay"]).stat().st_size > 10_000


def test_one_bad_scan_does_not_lose_the_others(
    trained: Path, datalist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = datalist.parent / _items(datalist, "testing")[0]["image"]
    truncated = trained / "truncated.nii.gz"
    truncated.write_bytes(good.read_bytes()[:2000])
    with pytest.raises(SystemExit) as ended:
        _predict(trained, "some", truncated, good, "nowhere.nii.gz")
    assert "2 of 3 scans failed" in str(ended.value.code)
    report = json.loads((trained / "some" / "predictions.json").read_text())
    assert [scan["scan"] for scan in report["scans"]] == [str(good)]
    failed = {Path(scan["scan"]).name: scan["error"] for scan in report["failed"]}
    assert set(failed) == {"truncated.nii.gz", "nowhere.nii.gz"}
    assert all("\n" not in error and name in error for name, error in failed.items())


def test_the_same_scan_in_other_orientations_has_the_same_risk(
    trained: Path, datalist: Path
) -> None:
    scan = _volume(datalist.parent / _items(datalist, "testing")[0]["image"])
    paths = []
    for name, codes in {"ras": "RAS", "sla": "SLA", "pir": "PIR"}.items():
        target = nib.orientations.axcodes2ornt(codes)
        turned = scan.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(scan.affine), target)
        )
        paths.append(trained / f"{name}.nii.gz")
        nib.save(turned, paths[-1])
    assert _predict(trained, "turned", *paths) == 0
    report = json.loads((trained / "turned" / "predictions.json").read_text())
    risks = [result["risk"] for result in report["scans"]]
    np.testing.assert_allclose(risks, risks[0], atol=1e-5)
    peaks = np.array([result["peak_ras_mm"] for result in report["scans"]])
    np.testing.assert_allclose(peaks, peaks[:1].repeat(3, axis=0), atol=6)


@pytest.mark.skipif(not REAL_SCAN.is_file(), reason="needs ../shared/data/lidc1011")
def test_a_whole_real_scan_is_predicted(trained: Path) -> None:
    assert _predict(trained, "real", REAL_SCAN) == 0
    report = json.loads((trained / "real" / "predictions.json").read_text())
    attention = _volume(trained / "real" / report["scans"][0]["attention"])
    assert attention.shape == (512, 512, 133)
    np.testing.assert_allclose(attention.affine, _volume(REAL_SCAN).affine, atol=1e-4)


def test_monai_alone_trains_and_predicts(
    datalist: Path, small_settings: list[str], tmp_path: Path
) -> None:
    """The commands of the bundle's page, from its folder."""
    settings = [f"--{part}" for part in small_settings if part != "--set"]
    places = ["--run_dir", str(tmp_path), "--data_list", str(datalist)]
    scan = datalist.parent / _items(datalist, "testing")[0]["image"]
    train = ["--max_epochs", "1"]
    applied = ["--scans", str(scan), "--output_dir", str(tmp_path / "results")]
    own = [part for part in settings if "crop" not in part and "batch" not in part]
    own = [part for part in own if "workers" not in part]
    for workflow, options in (("train", [*settings, *train]), ("inference", [*own, *applied])):
        files = f"['configs/common.yaml','configs/{workflow}.yaml']"
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files]
        command += [
            "--meta_file",
            "configs/metadata.json",
            "--logging_file",
            "configs/logging.conf",
        ]
        subprocess.run(
            [*command, *places, *options],
            cwd=BUNDLES_ROOT / BUNDLE,
            check=True,
            capture_output=True,
        )
    assert len(json.loads((tmp_path / "results/predictions.json").read_text())["scans"]) == 1


def test_given_lungs_are_used_and_must_fit_the_scan(
    trained: Path,
    datalist: Path,
    small_settings: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["--overlay", "given_lungs", "--set", "max_epochs=1", "--set", f"run_dir={trained}/own"]
    train = ["train", BUNDLE, *small_settings, *given, "--datalist"]
    assert main([*train, str(datalist)]) == 0
    content = json.loads(datalist.read_text())
    lungs = _volume(datalist.parent / content["training"][1]["lungs"])
    moved = lungs.affine.copy()
    moved[0, 3] += 30
    nib.save(nib.Nifti1Image(lungs.get_fdata().astype(np.uint8), moved), trained / "moved.nii.gz")
    content["training"][1]["lungs"] = str(trained / "moved.nii.gz")
    wrong = datalist.with_name("wrong.json")
    wrong.write_text(json.dumps(content))
    assert main([*train, str(wrong)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error:") and "moved.nii.gz" in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "lung"], "bundle must be one of"),
        (["train", BUNDLE, "--overlay", "no_such"], "overlay must be a file of"),
        (["train", BUNDLE, "--set", "max_epoch=3"], "did you mean max_epochs?"),
        (["train", BUNDLE, "--set", "max_epochs"], "--set must be given as name=value"),
        (["train", BUNDLE, "--set", "max_epochs=[1,"], "--set must be given a value in YAML"),
        (["train", BUNDLE, "--set", "max_epochs=many"], "max_epochs must be a number as 30 is"),
        (["train", BUNDLE, "--resume", "nowhere.pt"], "--resume must name the last.pt of a run"),
        (["predict", "lung", "--scans", "x", "--output", "y"], "bundle must be one of"),
        (["train", BUNDLE, "--datalist", "nowhere.json"], "nowhere.json"),
        (["predict", BUNDLE, "--scans", "x", "--output", "y", "--checkpoint", "z.pt"], "z.pt"),
    ],
)
def test_a_broken_rule_is_one_sentence(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    last = [line for line in error.splitlines() if line.startswith("error:")]
    assert len(last) == 1
    assert sentence in last[0]
    # What never began leaves no folder behind.
    assert len(list((trained / "runs" / BUNDLE).iterdir())) == 1


def test_nothing_trained_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bundles.run_folders.runs_folder", lambda: tmp_path)
    assert main(["predict", BUNDLE, "--scans", "x.nii.gz", "--output", str(tmp_path)]) == 1
    assert "must have been trained" in capsys.readouterr().err


def test_ctrl_c_leaves_a_checkpoint_and_a_run_marked_killed(
    tmp_path: Path, datalist: Path, small_settings: list[str]
) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-m", "bundles", "train", BUNDLE, "--datalist", str(datalist)]
    process = subprocess.Popen(
        [
            *command,
            *small_settings,
            "--set",
            "max_epochs=10000",
            "--set",
            f"run_dir={tmp_path}/run",
        ],
        env={**os.environ, "MLFLOW_TRACKING_URI": store},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/last.pt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    # Python itself ends by the signal once Ctrl-C passed an eval; a shell sees 130 either way.
    assert process.returncode in (130, -signal.SIGINT), output.decode()
    (checkpoint,) = tmp_path.glob("run/last.pt")
    assert torch.load(checkpoint, weights_only=True)["trainer"]["iteration"] > 0
    _, run = _tracked(store)
    assert run.info.status == "KILLED"
