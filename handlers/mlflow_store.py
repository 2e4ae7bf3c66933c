"""The one MLflow store that all bundles' runs go to.

`MLFLOW_TRACKING_URI` names it; without that it is `runs/mlflow.db` in the checkout (in the working
folder where there is no checkout), with the artifacts in `runs/artifacts` beside it.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

# Nothing about a hospital's training leaves its machine unasked. Read at mlflow's import, so set
# before it; the call after it covers a program that had imported mlflow already. A server that
# goes away holds up a training for seconds, not for the minutes that MLflow would try.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.telemetry import set_telemetry_client

set_telemetry_client()


def checkout_folder() -> Path:
    """Return the checkout that this package stands in, or the working folder if there is none."""
    folder = Path(__file__).resolve().parent.parent
    project = folder / "pyproject.toml"
    if project.is_file() and tomllib.loads(project.read_text())["project"]["name"] == "locus":
        return folder
    return Path.cwd()


def local_store_uri() -> str:
    """Return the URI of the store that is used unless `MLFLOW_TRACKING_URI` names another."""
    return f"sqlite:///{checkout_folder() / 'runs' / 'mlflow.db'}"


def store_uri(tracking_uri: str | None = None) -> str:
    """Return the named store's URI; without a name that of `MLFLOW_TRACKING_URI`, else the local.

    Raises:
        ValueError: neither a database nor a server (MLflow no longer writes plain folders).
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or local_store_uri()
    if "://" not in uri or uri.startswith("file:"):
        raise ValueError(f"the MLflow store must be the URI of a database or server, got {uri}")
    return uri


def ensure_store(experiment_name: str, tracking_uri: str | None = None) -> Experiment:
    """Return an experiment of the store, making the schema and the experiment if they lack.

    Safe to call again and from several processes at once: a fresh SQLite store breaks when two
    runs create it together, so a lock file beside it lets one do so.

    Args:
        experiment_name: the experiment, commonly the bundle's name.
        tracking_uri: the store; None for `MLFLOW_TRACKING_URI`, else the local store.

    Raises:
        ValueError: neither a database nor a server, or a deleted experiment.
        MlflowException: a store that does not answer.
    """
    uri = store_uri(tracking_uri)
    database = _sqlite_file(uri)
    artifacts = None
    lock: FileLock | nullcontext[None] = nullcontext()
    if database is not None:
        (database.parent / "artifacts").mkdir(parents=True, exist_ok=True)
        artifacts = (database.parent / "artifacts").as_uri()
        lock = FileLock(f"{database}.lock")
    with lock, _quiet():
        if database is not None and not database.exists():
            _create_schema(database)
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is None:
            try:
                client.create_experiment(experiment_name, artifact_location=artifacts)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ValueError(f"the MLflow experiment must not be deleted, got {experiment_name}")
    return experiment


def ensure_all() -> None:
    """Make the store with one experiment for each bundle; a server that is away is only told."""
    bundles = sorted((checkout_folder() / "bundles").glob("*/configs"))
    try:
        for configs in bundles:
            ensure_store(configs.parent.name)
    except MlflowException as error:
        print(f"MLflow store: {_first_line(error)}")


def serve(port: int) -> None:
    """Become the MLflow server on 127.0.0.1, showing the runs of the store.

    Raises:
        SystemExit: a port that is no port or taken, or a store that a server shows already.
    """
    if not 0 < port < 65536:
        sys.exit(f"PORT must be from 1 to 65535, got {port}")
    uri = store_uri()
    if uri.startswith("http"):
        ensure_all()
        sys.exit(f"the runs are on {uri} (MLFLOW_TRACKING_URI); open it in a browser")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            sys.exit(f"port {port} is taken; name another with: make mlflow PORT=5001")
    ensure_all()
    print(f"MLflow shows {uri} on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = ["-m", "mlflow", "server", "--backend-store-uri", uri, *where]
    os.execv(sys.executable, [sys.executable, *server])


def _sqlite_file(uri: str) -> Path | None:
    """The database file of an SQLite URI, absolute; None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///")).absolute()


def _create_schema(database: Path) -> None:
    """Make the database under another name first, so that one cut off is never taken for whole."""
    unfinished = database.with_name(f"{database.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{unfinished}")
    unfinished.rename(database)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the lines about the schema's hundred migrations out of the log."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
