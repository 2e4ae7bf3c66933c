"""A bundle's configuration: which files it is merged from, and what its weights need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

BUNDLES_ROOT = Path(__file__).resolve().parent
TRACKING = BUNDLES_ROOT / "tracking.yaml"
# Where a run reads, writes and computes; every other key of common.yaml belongs to the weights.
PLACES = {
    "bundle_root",
    "experiment",
    "run_dir",
    "dataset_dir",
    "data_list",
    "checkpoint",
    "calibration",
    "device",
    "memory_format",
}


def bundle_names() -> list[str]:
    """The bundles of this repository."""
    return sorted(path.parent.parent.name for path in BUNDLES_ROOT.glob("*/configs/metadata.json"))


def bundle_configs(bundle: str) -> Path:
    """The folder of a bundle's configuration files.

    Raises:
        ValueError: there is no such bundle.
    """
    if bundle not in bundle_names():
        raise ValueError(f"bundle must be one of {', '.join(bundle_names())}, got {bundle}")
    return BUNDLES_ROOT / bundle / "configs"


def config_files(bundle: str, workflow: str, overlays: Sequence[str | Path]) -> list[Path]:
    """The files that make up a workflow, in the order in which they are merged.

    Raises:
        ValueError: an unknown bundle or overlay, or a ``trained.yaml`` of another bundle's run.
    """
    configs = bundle_configs(bundle)
    files = [configs / "common.yaml", configs / f"{workflow}.yaml"]
    if workflow == "train":
        files.append(TRACKING)
    for overlay in overlays:
        path = configs / f"{overlay}.yaml"
        if not path.is_file():
            path = Path(overlay)
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in configs.glob("*.yaml")))
            raise ValueError(
                f"overlay must be a file of configs/ or a path, got {overlay}; there are {known}"
            )
        if path.name == "trained.yaml":
            check_run(bundle, path.parent)
        files.append(path)
    return files


def check_run(bundle: str, run_dir: Path) -> None:
    """Raise ``ValueError`` if ``run_dir`` is a training of another bundle."""
    config_file = run_dir / "config.yaml"
    if not config_file.is_file():
        return
    found = yaml.safe_load(config_file.read_text(encoding="utf-8")).get("experiment")
    if found != bundle and found in bundle_names():
        raise ValueError(f"{run_dir}: must be a run of {bundle}, got one of {found}")


def merged_config(files: Sequence[Path], overrides: Mapping[str, Any] | None = None) -> Any:
    """The raw config of ``files`` and ``overrides`` together, references unresolved."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update(dict(overrides or {}))
    return parser.get()


def trained_keys(bundle: str) -> set[str]:
    """The keys of common.yaml that belong to the weights."""
    return set(yaml.safe_load((bundle_configs(bundle) / "common.yaml").read_text())) - PLACES


def write_config(run_dir: Path, config: Mapping[str, Any], trained: set[str]) -> None:
    """Write the executed config, and what the weights need of it, into ``run_dir``.

    Raises:
        ValueError: if the folder cannot be written.
    """
    content = {key: value for key, value in config.items() if key != "_meta_"}
    parts = {
        "config.yaml": content,
        "trained.yaml": {key: value for key, value in content.items() if key in trained},
    }
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            (run_dir / name).write_text(yaml.safe_dump(part, sort_keys=False))
    except OSError as error:
        raise ValueError(
            f"run_dir must be a writable folder, got {run_dir} ({error.strerror})"
        ) from error


def remove_config(run_dir: Path) -> None:
    """Take back what `write_config` wrote, and the folder where nothing else is in it."""
    for name in ("config.yaml", "trained.yaml"):
        (run_dir / name).unlink(missing_ok=True)
    if not any(run_dir.iterdir()):
        run_dir.rmdir()
