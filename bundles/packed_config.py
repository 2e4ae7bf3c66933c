"""What a flat config needs besides, to run from wherever its package was unpacked."""

from __future__ import annotations

import re
from typing import Any

# Where a package reads and writes.
PACKED_PLACES = {
    "dataset_dir": "$@bundle_root + '/data'",
    "data_list": "$@dataset_dir + '/datalist.json'",
    "run_dir": "$@bundle_root + '/runs/default'",
    "checkpoint": "$@bundle_root + '/models/model.pt'",
    "calibration": "$@bundle_root + '/models/calibration.json'",
}
# Files that `python -m bundles` adds to a run, and MONAI's own command does not.
WRITTEN_BY_BUNDLES = ("/config.yaml'", "/trained.yaml'")
IMPORTS = ["$import inspect", "$import sys", "$from pathlib import Path"]
# MONAI tells a config nowhere which file it stands in, and the `load()` of Python puts no folder on
# sys.path. The frames of MONAI's own calls know: a workflow's object, a command's local variable.
BUNDLE_ROOT = (
    "$next((str(Path(folder).resolve().parent) for call in inspect.stack(0)"
    " if call.frame.f_globals.get('__name__', '').startswith('monai.bundle')"
    " for folder in [getattr(call.frame.f_locals.get('self'), '__dict__', {})"
    ".get('config_root_path'), *(Path(file).parent for file in"
    " monai.utils.ensure_tuple(call.frame.f_locals.get('config_file_') or ()))]"
    " if folder), '.')"
)
# First on sys.path: a bundle runs its own code, whatever the working folder holds.
CODE_FOLDER = "$@bundle_root in sys.path or sys.path.insert(0, @bundle_root)"


def packed_workflow(config: dict[str, Any], digest: str) -> dict[str, Any]:
    """A flat config with its places in the package, which runs only with the code of ``digest``."""
    places: dict[str, Any] = {key: PACKED_PLACES[key] for key in PACKED_PLACES if key in config}
    if "run_artifacts" in config:
        places["run_artifacts"] = [
            file for file in config["run_artifacts"] if not file.endswith(WRITTEN_BY_BUNDLES)
        ]
    code = {
        "imports": IMPORTS,
        "bundle_root": BUNDLE_ROOT,
        "code_folder": CODE_FOLDER,
        "shared_code": {
            "_target_": "shared_code.require",
            "_requires_": "@code_folder",
            "digest": digest,
        },
    }
    return packed_overlay({**code, "initialize": [], **config, **places, **code})


def packed_overlay(config: dict[str, Any]) -> dict[str, Any]:
    """An overlay, with the check of the code kept where the overlay replaces what asks for it."""
    packed = dict(config)
    if "initialize" in packed:
        packed["initialize"] = ["$@shared_code", *packed["initialize"]]
    if "network_def" in packed:
        packed["network_def"] = {"_requires_": "@shared_code", **packed["network_def"]}
    return packed


def check_no_absolute_path(config: Any, where: str) -> None:
    """Raise ``ValueError`` if a text in ``config`` is, or an expression has, an absolute path.

    Args:
        config: of any depth.
        where: name of the config, for the message.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            check_no_absolute_path(value, f"{where}::{key}")
    elif isinstance(config, list):
        for index, value in enumerate(config):
            check_no_absolute_path(value, f"{where}::{index}")
    elif isinstance(config, str):
        beginnings = _QUOTED.findall(config) if config.startswith("$") else [config]
        if any(_ABSOLUTE.match(beginning) for beginning in beginnings):
            raise ValueError(f"{where}: a package must hold no absolute path, got {config}")


_ABSOLUTE = re.compile(r"/|~|[A-Za-z]:[\\/]")
_QUOTED = re.compile(r"(?<!\+ )(?<!\w)['\"]([^'\"]*)")  # but for what is added to another path
