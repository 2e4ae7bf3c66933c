"""One run in an MLflow store."""

from __future__ import annotations

import logging
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param
from mlflow.exceptions import MlflowException

from handlers.mlflow_store import checkout_folder, ensure_store, local_store_uri

logger = logging.getLogger(__name__)

SERVER_TIMEOUT_S = 3.0
PARAMS_PER_CALL = 100
VERSIONS_OF = ("torch", "monai", "pytorch-ignite", "mlflow", "numpy")


class MlflowRun:
    """One MLflow run, open from the constructor to `end`.

    Where the store does not answer, the run is made in the local store and the log says so.

    Args:
        experiment_name: made if it is not there yet.
        name: None for `<experiment_name>-<date>-<time>-<4 hex digits>`.
        tracking_uri: a database or a server.
        tags: of the run, beside those that tell its origin.
        run_id: an earlier run to take up again, in place of a new one.

    Raises:
        MlflowException: the local store fails too, or has no run of that id.
    """

    def __init__(
        self,
        experiment_name: str,
        *,
        name: str | None,
        tracking_uri: str,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> None:
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.name = name or f"{experiment_name}-{stamp}"
        self._tags = dict(tags or {})
        self._run_id = run_id
        self._missing: set[Path] = set()
        try:
            check_server(tracking_uri)
            self._open(experiment_name, tracking_uri)
        except (MlflowException, OSError) as error:
            local_uri = local_store_uri()
            if tracking_uri == local_uri:
                raise
            reason = str(error).partition("\n")[0]
            logger.warning("%s fails (%s), tracking in %s", tracking_uri, reason, local_uri)
            self._open(experiment_name, local_uri)
        logger.info("MLflow run %s in %s", self.name, self.tracking_uri)

    def _open(self, experiment_name: str, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.experiment: Experiment = ensure_store(experiment_name, tracking_uri)
        self.client = MlflowClient(tracking_uri=tracking_uri)
        if self._run_id is not None:
            self.entity = self.client.get_run(self._run_id)
            self.reopen()
            return
        self.entity = self.client.create_run(
            self.experiment.experiment_id, run_name=self.name, tags=_origin_tags() | self._tags
        )

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters as text."""
        entities = [Param(key, str(value)) for key, value in params.items()]
        for start in range(0, len(entities), PARAMS_PER_CALL):
            few = entities[start : start + PARAMS_PER_CALL]
            self.client.log_batch(self.entity.info.run_id, params=few)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log values at one step."""
        now_ms = int(time.time() * 1000)
        metrics = [Metric(name, value, now_ms, step) for name, value in values.items()]
        self.client.log_batch(self.entity.info.run_id, metrics=metrics)

    def log_artifacts(self, paths: Iterable[Path]) -> None:
        """Copy files, and folders under their own name, into the run; say once what is missing."""
        run_id = self.entity.info.run_id
        for path in paths:
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), artifact_path=path.name)
            elif path.is_file():
                self.client.log_artifact(run_id, str(path))
            elif path not in self._missing:
                logger.warning("MLflow artifact must exist, got %s", path)
                self._missing.add(path)

    def reopen(self) -> None:
        """Take an ended run up again."""
        self.client.update_run(self.entity.info.run_id, status="RUNNING")

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Close the run as FINISHED, FAILED or KILLED, the tag `error` telling what ended it."""
        run_id = self.entity.info.run_id
        if error is not None:
            self.client.set_tag(run_id, "error", f"{type(error).__name__}: {error}")
        self.client.set_terminated(run_id, status)


def check_server(uri: str) -> None:
    """Raise OSError where a server does not answer soon; MLflow itself would wait much longer."""
    if not uri.startswith("http"):
        return
    with suppress(urllib.error.HTTPError):  # a refusal is an answer, from behind a login say
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S).close()


def _origin_tags() -> dict[str, str]:
    """What the run was made from: package versions and, in a git checkout, the commit."""
    tags = {f"version.{package}": version(package) for package in VERSIONS_OF}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        changed = _git("status", "--porcelain", "--untracked-files=no")
        tags["git.uncommitted_changes"] = str(bool(changed))
    return tags


def _git(*arguments: str) -> str:
    """The output of git in the checkout, empty where there is no git or no commit."""
    command = ["git", "-C", str(checkout_folder()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
