from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from bundles import register
from bundles.__main__ import main
from bundles.pack import pack_bundle
from handlers.mlflow_store import store_uri

BUNDLE = "lung_ct_nodule_segmentation"
KINDS = ("images", "masks")
SAID = ("registered", "registered before")


@pytest.fixture(scope="module")
def run_dir(trained_segmenter: Path, datalist: Path) -> Path:
    assert main(["evaluate", BUNDLE, "--datalist", str(datalist)]) == 0
    return next((trained_segmenter / "runs" / BUNDLE).iterdir())


@pytest.fixture(scope="module")
def package(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_bundle(BUNDLE, run_dir, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def version(package: Path, run_dir: Path) -> ModelVersion:
    """The first version in the SQLite store of the training."""
    made, new = register.register_package(BUNDLE, package, run_dir)
    assert new
    return made


def versions() -> list[ModelVersion]:
    client = MlflowClient(tracking_uri=store_uri(), registry_uri=store_uri())
    return list(client.search_model_versions(f"name = '{BUNDLE}'"))


def registering(package: Path, run_dir: Path, bundle: str = BUNDLE) -> int:
    return register.main([bundle, "--package", str(package), "--run", str(run_dir)])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_version_tells_where_it_comes_from(
    version: ModelVersion, package: Path, run_dir: Path, datalist: Path
) -> None:
    assert int(version.version) == 1
    expected = {
        "package.sha256": sha256(package),
        "weights.sha256": sha256(run_dir / "model.pt"),
        "data_list_sha256": sha256(datalist),
        "data_list_hashed": "training",
        "run": run_dir.name,
        "evaluation.scans": "2",
        "evaluation.synthetic": "True",
    }
    assert expected.items() <= version.tags.items()
    client = MlflowClient(tracking_uri=store_uri())
    assert version.run_id is not None
    assert client.get_run(version.run_id).info.run_name == run_dir.name  # the training's own
    evaluation = json.loads((run_dir / "evaluation" / "evaluation.json").read_text())
    model = client.get_logged_model(version.tags["model_id"])
    metrics = {each.key: each.value for each in model.metrics or []}
    measured = {name: value for name, value in evaluation["metrics"].items() if value is not None}
    assert measured and metrics == {f"test_{name}": value for name, value in measured.items()}


def test_the_same_zip_is_no_second_version(
    version: ModelVersion,
    package: Path,
    run_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = len(versions())
    assert registering(package, run_dir) == 0
    said = capsys.readouterr().out
    assert said == f"registered before: {BUNDLE} version {version.version} in {store_uri()}\n"
    assert len(versions()) == before
    other = tmp_path / package.name
    shutil.copy(package, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.comment = b"other bytes"
    assert registering(other, run_dir) == 0
    said = capsys.readouterr().out
    assert said == f"registered: {BUNDLE} version {before + 1} in {store_uri()}\n"


def test_a_loaded_version_finds_what_predict_finds(
    version: ModelVersion, run_dir: Path, datalist: Path, tmp_path: Path
) -> None:
    scan, mask = (str(datalist.parent / f"{kind}/phantom-000006.nii.gz") for kind in KINDS)
    out = tmp_path / "predicted"
    places = ["--run", str(run_dir), "--output", str(out)]
    with pytest.raises(SystemExit, match="1 of 2 scans failed"):
        main(["predict", BUNDLE, *places, "--scans", scan, mask])
    predicted = json.loads((out / "predictions.json").read_text())
    model = mlflow.pyfunc.load_model(f"models:/{BUNDLE}/{version.version}")
    found, failed = model.predict(pd.DataFrame({"scan": [scan, mask]}))
    ((entry,), (failure,)) = predicted["scans"], predicted["failed"]
    assert (found["scan"], found["error"]) == (scan, None)
    assert (failed["scan"], failed["result"], failed["error"]) == (mask, None, failure["error"])
    files = {name for name in entry if name.endswith("_file")}
    assert found["result"] == {
        **{name: value for name, value in entry.items() if name not in {*files, "scan", "seconds"}},
        "seconds": found["result"]["seconds"],
    }
    kept = tmp_path / "kept"
    (whole,) = model.predict(pd.DataFrame({"scan": [scan]}), {"output_dir": str(kept)})
    assert files and all((kept / whole["result"][name]).is_file() for name in files)


def test_a_server_keeps_and_gives_the_zip(
    package: Path,
    run_dir: Path,
    datalist: Path,
    tmp_path: Path,
    mlflow_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    assert registering(package, run_dir) == 0
    assert registering(package, run_dir) == 0
    lines = [f"{said}: {BUNDLE} version 1 in {mlflow_server.uri}" for said in SAID]
    assert capsys.readouterr().out.splitlines() == lines
    (version,) = versions()
    assert version.tags["data_list_sha256"] == sha256(datalist)
    assert version.tags["data_list_hashed"] == "registration"  # the training is in another store
    uri = f"models:/{BUNDLE}/{version.version}"
    mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path / "fetched"))
    assert sha256(tmp_path / "fetched" / "artifacts" / package.name) == sha256(package)


def test_what_breaks_a_rule_is_not_registered(
    package: Path,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    shutil.copy(run_dir / "last.pt", other / "model.pt")
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((package, run_dir, "lung_ct_cancer_risk"), "must be a package of lung_ct_cancer_risk"),
        ((package, other), "must hold the weights of the run"),
        ((package, tmp_path), "a run must hold its model.pt, got none in"),
        ((tmp_path / "none.zip", run_dir), "a package must be an existing zip"),
        ((run_dir / "model.pt", run_dir), "a package must"),
    ]
    for arguments, sentence in cases:
        assert registering(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_is_away_is_told_soon(
    package: Path,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    start = time.monotonic()
    assert registering(package, run_dir) == 1
    assert time.monotonic() - start < 20
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: http://127.0.0.1:9 must answer, got")
