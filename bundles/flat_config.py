"""A bundle's layers of YAML as the one file for each workflow that the model zoo asks for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from bundles.bundle_config import PLACES, bundle_configs, config_files, merged_config

WORKFLOWS = ("train", "evaluate", "inference")
# Of one training alone: its name, and the checkpoint that it went on from.
OF_ONE_RUN = {"run_name", "resume"}


def flat_config(bundle: str, workflow: str, run_dir: Path) -> dict[str, Any]:
    """A workflow's layers and the run's settings merged; references stay references.

    A training is as it was run, of an evaluation and an inference what belongs to the weights;
    where the run read and wrote is left out.

    Args:
        bundle: name of a folder of ``bundles/``.
        workflow: ``train``, ``evaluate`` or ``inference``.
        run_dir: a run, with the ``config.yaml`` and ``trained.yaml`` that a training writes.

    Raises:
        ValueError: the run lacks one of these files.
    """
    own = run_dir / ("config.yaml" if workflow == "train" else "trained.yaml")
    try:
        run = yaml.safe_load(own.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{own}: a run must have this file, got {error.strerror}") from error
    config = merged_config(config_files(bundle, workflow, overlays=[]))
    del config["_meta_"]
    left_out = PLACES | OF_ONE_RUN
    return {**config, **{key: value for key, value in run.items() if key not in left_out}}


def overlay_configs(bundle: str) -> dict[str, dict[str, Any]]:
    """Every overlay of a bundle by its name; keys such as ``train::dataset`` stay as they are."""
    files = sorted(bundle_configs(bundle).glob("*.yaml"))
    overlays = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}
    return {name: overlays[name] for name in overlays if name not in ("common", *WORKFLOWS)}


def config_json(config: Any) -> str:
    """A config as JSON in ASCII, which reads the same under every locale."""
    return json.dumps(_without_infinity(config), indent=4, allow_nan=False) + "\n"


def _without_infinity(config: Any) -> Any:
    """JSON knows no infinity, which YAML writes as .inf; an expression gives it."""
    if isinstance(config, dict):
        return {key: _without_infinity(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_without_infinity(value) for value in config]
    if isinstance(config, float) and not math.isfinite(config):
        return f"$float('{config}')"
    return config
