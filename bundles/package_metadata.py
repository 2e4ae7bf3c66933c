"""The metadata.json of a package: the bundle's own, with what its run and its code tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from bundles.package_requirements import OWN_KEYS, pinned_versions


def package_metadata(
    metadata: Mapping[str, Any],
    *,
    required: Mapping[str, str],
    optional: Mapping[str, str],
    evaluation: Mapping[str, Any] | None,
    data_source: str | None,
) -> dict[str, Any]:
    """Fill in versions and measures.

    Args:
        metadata: of the bundle in the repository.
        required: packages that the package's modules import, with their versions.
        optional: packages that they can do without.
        evaluation: content of the run's ``evaluation.json``; None leaves the measures empty.
        data_source: what the weights were trained on; None for the phantoms, which ``metadata``
            names.

    Raises:
        ValueError: the changelog does not tell of the version.
    """
    version, changelog = metadata["version"], metadata["changelog"]
    if not changelog.get(version):
        raise ValueError(
            f"the changelog of metadata.json must tell of version {version}, "
            f"got {', '.join(changelog) or 'none'}"
        )
    pins = pinned_versions()
    return {
        **metadata,
        **{key: pins[package] for package, key in OWN_KEYS.items()},
        "required_packages_version": dict(required),
        "optional_packages_version": dict(optional),
        "eval_metrics": {} if evaluation is None else _measures(evaluation),
        "data_source": data_source or metadata["data_source"],
    }


def run_evaluation(run_dir: Path) -> dict[str, Any] | None:
    """The run's ``evaluation/evaluation.json``; None where there is none, or of other weights."""
    path = run_dir / "evaluation" / "evaluation.json"
    if not path.is_file():
        return None
    try:
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        judged = evaluation["checkpoint"]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: must be what an evaluation writes, got {error}") from error
    weights = hashlib.sha256((run_dir / "model.pt").read_bytes()).hexdigest()
    return evaluation if judged == weights else None


def network_data_format(
    metadata: Mapping[str, Any], config: Mapping[str, Any], network: Module
) -> dict[str, Any]:
    """What the trained network takes and gives, where a run may have changed it.

    Sizes are multiples of the network's strides in ``config``; the number of outputs is counted.
    """
    described: dict[str, Any] = json.loads(json.dumps(metadata["network_data_format"]))
    strides = config.get("strides") or config["tile_stride"]
    image, pred = described["inputs"]["image"], described["outputs"]["pred"]
    if pred["spatial_shape"] == image["spatial_shape"]:
        pred["spatial_shape"] = [f"{stride}*n" for stride in strides]
    elif pred["spatial_shape"]:
        pred["spatial_shape"] = pred["spatial_shape"][: len(strides)]
    image["spatial_shape"] = [f"{stride}*n" for stride in strides]
    with torch.no_grad():
        sizes = [4 * stride for stride in strides]
        output = network.eval()(torch.zeros(1, image["num_channels"], *sizes))
    if isinstance(output, torch.Tensor) and output.shape[1] != pred["num_channels"]:
        pred["num_channels"] = output.shape[1]
        what = pred["channel_def"]["0"]
        pred["channel_def"] = {str(each): f"{what}, {each}" for each in range(output.shape[1])}
    return described


def _measures(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    scans = "synthetic phantoms" if evaluation["synthetic"] else "scans"
    judged_on = f"{evaluation['scans']} {scans} of {evaluation['datalist']}"
    measured = {name: value for name, value in evaluation["metrics"].items() if value is not None}
    return {"judged_on": judged_on, **measured}
