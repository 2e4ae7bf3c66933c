"""``python -m bundles.register``: a packed bundle becomes a version in MLflow's model registry."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
import pandas as pd
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType
from monai.bundle import ConfigParser

from bundles.bundle_config import merged_config
from bundles.package_metadata import run_evaluation
from bundles.run_folders import last_run
from bundles.tracked_training import tracked_training
from bundles.unpack_package import unpack_package
from handlers.finite_scalars import finite_scalars
from handlers.mlflow_run import check_server
from handlers.mlflow_store import ensure_store, store_uri

MODEL = Path(__file__).with_name("packed_model.py")
QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PACKAGE_TAG = "package.sha256"
DATA_PARAM = "data_list_sha256"  # of handlers.MlflowTracking
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "scan")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "scan"),
            ColSpec(AnyType(), "result"),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
    params=ParamSchema([ParamSpec("output_dir", DataType.string, "")]),
)


class Registration(NamedTuple):
    """A version in the registry, and whether it was made now or had been there."""

    version: ModelVersion
    new: bool


def register_package(bundle: str, package: Path, run_dir: Path) -> Registration:
    """Register a package, with the metrics and the data hash of its run, in the MLflow store.

    A zip that is registered already gets no second version.

    Args:
        bundle: name of the bundle, and of the registered model.
        package: the zip that ``python -m bundles.pack`` wrote.
        run_dir: folder of the training that its weights come from.

    Raises:
        FileNotFoundError: there is no such zip or ``model.pt``.
        ValueError: a zip that is no package, of another bundle, or of other weights than the run's.
        MlflowException, OSError: the store does not answer.
    """
    with TemporaryDirectory(prefix="package-") as folder:
        root = unpack_package(package, Path(folder))
        if root.name != bundle:
            raise ValueError(f"{package} must be a package of {bundle}, got {root.name}")
        _check_weights(root / "models" / "model.pt", run_dir / "model.pt", package)
        metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    uri = store_uri()
    try:
        check_server(uri)
    except OSError as error:
        raise OSError(f"{uri} must answer, got {error}") from error
    experiment = ensure_store(bundle, uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    digest = _sha256(package)
    earlier = _registered(client, bundle, digest)
    if earlier is not None:
        return Registration(earlier, new=False)
    training = tracked_training(client, experiment, run_dir)
    name = f"{run_dir.name}-registered"
    run = training or client.create_run(experiment.experiment_id, run_name=name)
    evaluation = run_evaluation(run_dir)
    tags = {
        PACKAGE_TAG: digest,
        "package.version": metadata["version"],
        "weights.sha256": _sha256(run_dir / "model.pt"),
        "run": run_dir.name,
        **_data_tags(run_dir, run),
        **_evaluation_tags(evaluation),
    }
    model = _log_model(client, run, package, metadata=metadata, tags=tags)
    _log_metrics(client, run, model.model_id, {} if evaluation is None else evaluation["metrics"])
    if training is None:
        client.set_terminated(run.info.run_id)
    version = _new_version(client, bundle, model, run=run, metadata=metadata, tags=tags)
    return Registration(version, new=True)


def _check_weights(packed: Path, trained: Path, package: Path) -> None:
    """A package is made from a run, and metrics of another run must not be told of it."""
    if not trained.is_file():
        raise FileNotFoundError(f"a run must hold its model.pt, got none in {trained.parent}")
    first, second = (
        torch.load(path, map_location="cpu", weights_only=True) for path in (packed, trained)
    )
    same = first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
    if not same:
        raise ValueError(
            f"{package} must hold the weights of the run, got others than {trained}; "
            "--run names the run"
        )


def _registered(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for version in page:
            if version.tags.get(PACKAGE_TAG) == digest:
                return version
        token = page.token
        if not token:
            return None


def _new_version(
    client: MlflowClient,
    name: str,
    model: LoggedModel,
    *,
    run: Run,
    metadata: Mapping[str, Any],
    tags: Mapping[str, str],
) -> ModelVersion:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=metadata["description"])
    return client.create_model_version(
        name,
        source=model.artifact_location,  # models:/<id> is looked for in MLflow's global store
        run_id=run.info.run_id,
        tags={**tags, "model_id": model.model_id},
        description=metadata["intended_use"],
        model_id=model.model_id,
    )


def _data_tags(run_dir: Path, run: Run) -> dict[str, str]:
    """The datalist's hash: as the training noted it, else of the file as it is now."""
    config = ConfigParser(merged_config([run_dir / "config.yaml"]))
    data_list = Path(config.get_parsed_content("data_list"))
    noted = run.data.params.get(DATA_PARAM)
    if noted is not None:
        return {"data_list": str(data_list), DATA_PARAM: noted, "data_list_hashed": "training"}
    if not data_list.is_file():
        return {"data_list": str(data_list)}
    now = _sha256(data_list)
    return {"data_list": str(data_list), DATA_PARAM: now, "data_list_hashed": "registration"}


def _evaluation_tags(evaluation: Mapping[str, Any] | None) -> dict[str, str]:
    if evaluation is None:
        return {}
    names = ("datalist", "synthetic", "scans")
    return {f"evaluation.{name}": str(evaluation[name]) for name in names}


def _log_model(
    client: MlflowClient,
    run: Run,
    package: Path,
    *,
    metadata: Mapping[str, Any],
    tags: Mapping[str, str],
) -> LoggedModel:
    """Upload the zip as a model of the run."""
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=package.stem.replace(".", "_"),
        source_run_id=run.info.run_id,
        tags=dict(tags),
    )
    own = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    pins = {name: metadata[key] for name, key in own.items()}
    pins |= {"mlflow": mlflow.__version__, **metadata["required_packages_version"]}
    with TemporaryDirectory(prefix="model-") as folder:
        path = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            path,
            mlflow_model=Model(run_id=run.info.run_id, model_id=logged.model_id),
            python_model=str(MODEL),
            artifacts={"package": str(package)},
            signature=SIGNATURE,
            input_example=(
                pd.DataFrame({"scan": ["scans/first.nii.gz"]}),
                {"output_dir": "results"},
            ),
            pip_requirements=[f"{name}=={version}" for name, version in pins.items()],
            metadata=dict(tags),
        )
        client.log_model_artifacts(logged.model_id, str(path))
    return client.finalize_logged_model(logged.model_id, "READY")


def _log_metrics(
    client: MlflowClient, run: Run, model_id: str, metrics: Mapping[str, float | None]
) -> None:
    now_ms = int(time.time() * 1000)
    values = [
        Metric(f"test_{name}", value, now_ms, 0, model_id=model_id, run_id=run.info.run_id)
        for name, value in finite_scalars(metrics).items()
        if value is not None
    ]
    client.log_batch(run.info.run_id, metrics=values)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles.register", description=__doc__)
    parser.add_argument("bundle", help="name of the bundle, such as lung_ct_cancer_risk")
    parser.add_argument("--package", type=Path, required=True, help="zip of `bundles.pack`")
    parser.add_argument("--run", type=Path, help="folder of its training run; else the last")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 after one sentence on the rule that was broken."""
    options = _parser().parse_args(arguments)
    os.environ.update(QUIET)
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    try:
        run_dir = (options.run or last_run(options.bundle)).resolve()
        version, new = register_package(options.bundle, options.package, run_dir)
    except (ValueError, OSError, MlflowException) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    place = f"version {version.version} in {store_uri()}"
    print(f"{'registered' if new else 'registered before'}: {version.name} {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
