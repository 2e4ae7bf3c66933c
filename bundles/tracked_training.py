"""The tracked MLflow run of a training whose folder is at hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException


def tracked_training(client: MlflowClient, experiment: Experiment, run_dir: Path) -> Run | None:
    """The newest run of the folder's name, or resumed in it, that holds the folder's weights.

    None where the store has none: the training may have been tracked elsewhere, or not at all.
    """
    name, weights = run_dir.name, _sha256(run_dir / "model.pt")
    runs = client.search_runs(
        [experiment.experiment_id],
        filter_string=f"attributes.run_name LIKE '{name.replace(chr(39), '_')}%'",
        order_by=["attributes.start_time DESC"],
    )
    for run in runs:
        found = run.info.run_name or ""
        resumed = found.startswith(f"{name}-resumed-")
        if (found == name or resumed) and _tracked_weights(client, run) == weights:
            return run
    return None


def _tracked_weights(client: MlflowClient, run: Run) -> str | None:
    with TemporaryDirectory() as folder:
        try:
            return _sha256(Path(client.download_artifacts(run.info.run_id, "model.pt", folder)))
        except (MlflowException, OSError):
            return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
