from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from handlers.mlflow_store import ensure_store, local_store_uri, serve, store_uri


def test_a_fresh_store_keeps_its_artifacts_beside_it(tmp_path: Path) -> None:
    database = tmp_path / "a folder" / "mlflow.db"
    uri = f"sqlite:///{database}"
    experiment = ensure_store("risk", uri)
    assert experiment.artifact_location == (database.parent / "artifacts").as_uri()
    assert ensure_store("risk", uri).experiment_id == experiment.experiment_id
    names = {each.name for each in MlflowClient(tracking_uri=uri).search_experiments()}
    assert names == {"Default", "risk"}


def test_a_creation_cut_off_is_made_anew(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db.unfinished") as half_made:
        half_made.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    assert ensure_store("risk", f"sqlite:///{tmp_path / 'mlflow.db'}").name == "risk"
    assert not (tmp_path / "mlflow.db.unfinished").exists()


def test_creation_is_quiet(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = f"from handlers.mlflow_store import ensure_store; ensure_store('risk', {uri!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "alembic" not in done.stderr
    assert "INFO" not in done.stderr


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert store_uri() == "http://127.0.0.1:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store_uri() == local_store_uri()
    assert local_store_uri().endswith("/runs/mlflow.db")


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns"])
def test_a_plain_folder_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=f"database or server, got {uri}"):
        store_uri(uri)


def test_a_deleted_experiment_is_refused(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).delete_experiment(ensure_store("risk", uri).experiment_id)
    with pytest.raises(ValueError, match="must not be deleted, got risk"):
        ensure_store("risk", uri)


def test_a_port_that_cannot_be_had_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("the server was started"))
    with pytest.raises(SystemExit, match="PORT must be from 1 to 65535, got 99999"):
        serve(99999)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"port {port} is taken; name another with"):
            serve(port)
    assert not database.exists()
