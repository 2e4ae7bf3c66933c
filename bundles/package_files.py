"""Every file of a package, read and checked before any is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bundles.bundle_config import bundle_configs
from bundles.flat_config import WORKFLOWS, config_json, flat_config, overlay_configs
from bundles.package_metadata import network_data_format, package_metadata, run_evaluation
from bundles.package_readme import package_readme
from bundles.package_requirements import optional_packages, required_packages
from bundles.packed_code import packed_code
from bundles.packed_config import check_no_absolute_path, packed_overlay, packed_workflow
from bundles.packed_weights import packed_calibration, trained_network, weights_bytes
from bundles.training_data import training_data
from bundles.used_modules import CODE_ROOT

WEIGHTS = "models/model.pt"
CALIBRATION = "models/calibration.json"


class PackageFiles(NamedTuple):
    """What a package holds, but for its manifest.

    Attributes:
        version: of the bundle.
        files: content by path in the package.
    """

    version: str
    files: dict[str, bytes]


def package_files(bundle: str, run_dir: Path, data_license: Path | None) -> PackageFiles:
    """Read and check everything; the same run and code give the same bytes.

    Args:
        bundle: name of a folder of ``bundles/``.
        run_dir: a run, with ``model.pt``, ``config.yaml`` and ``trained.yaml``.
        data_license: a text on the training data, where that is not phantoms.

    Raises:
        ValueError: an unknown bundle, weights of another network, or another rule broken.
        FileNotFoundError: the run has no weights.
    """
    configs = bundle_configs(bundle)
    if not (run_dir / "model.pt").is_file():
        raise FileNotFoundError(f"--run must be a training with its model.pt, got {run_dir}")
    flat = {workflow: flat_config(bundle, workflow, run_dir) for workflow in WORKFLOWS}
    overlays = overlay_configs(bundle)
    network = trained_network(flat["inference"], run_dir / "model.pt")
    data = training_data(bundle, run_dir, data_license)
    code = packed_code([*flat.values(), *overlays.values()])
    own = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
    metadata = package_metadata(
        {**own, "network_data_format": network_data_format(own, flat["inference"], network)},
        required=required_packages(code.sources),
        optional=optional_packages(code.sources),
        evaluation=run_evaluation(run_dir),
        data_source=data.source,
    )
    weights = weights_bytes(network)
    calibration = packed_calibration(run_dir, weights)
    files = {
        **code.files,
        **_configs(flat, overlays, code.digest),
        **_documents(bundle, metadata),
        "data_license.txt": data.license.encode(),
        WEIGHTS: weights,
        **({} if calibration is None else {CALIBRATION: _json_bytes(calibration)}),
    }
    _check_no_path_of_this_machine(files, run_dir)
    return PackageFiles(metadata["version"], files)


def _configs(
    flat: Mapping[str, dict[str, Any]], overlays: Mapping[str, dict[str, Any]], digest: str
) -> dict[str, bytes]:
    packed = {name: packed_workflow(config, digest) for name, config in flat.items()}
    packed |= {name: packed_overlay(config) for name, config in overlays.items()}
    for name, config in packed.items():
        check_no_absolute_path(config, f"{name}.json")
    return {f"configs/{name}.json": config_json(config).encode() for name, config in packed.items()}


def _documents(bundle: str, metadata: Mapping[str, Any]) -> dict[str, bytes]:
    configs = bundle_configs(bundle)
    readme, pictures = package_readme(bundle, metadata)
    return {
        "configs/metadata.json": _json_bytes(metadata),
        "configs/logging.conf": (configs / "logging.conf").read_bytes(),
        "docs/README.md": readme.encode(),
        **{f"docs/{name}": path.read_bytes() for name, path in pictures.items()},
        "LICENSE": (configs.parent / "LICENSE").read_bytes(),
    }


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=4) + "\n").encode()


def _check_no_path_of_this_machine(files: Mapping[str, bytes], run_dir: Path) -> None:
    """Raise ``ValueError`` if a file names the home, the checkout or the run's folder."""
    folders = {str(folder) for folder in (Path.home(), CODE_ROOT, run_dir.resolve())} - {"/"}
    path = re.compile(rb"(?<![\w.])(%s)[/\\]" % b"|".join(re.escape(f.encode()) for f in folders))
    for name, content in files.items():
        found = path.search(content)
        if found is not None:
            place = found[1].decode()
            raise ValueError(f"{name}: a package must hold no path of this machine, got {place}")
