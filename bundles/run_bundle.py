"""One workflow of one bundle, as ``python -m monai.bundle run`` would run it, with checks first."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle import run as run_config

BUNDLES_ROOT = Path(__file__).resolve().parent
TRACKING = BUNDLES_ROOT / "tracking.yaml"
# Where a run reads and writes; every other key of common.yaml belongs to the weights.
PLACES = {"bundle_root", "run_dir", "dataset_dir", "data_list", "checkpoint", "device"}


def bundle_names() -> list[str]:
    """The bundles of this repository."""
    return sorted(path.parent.parent.name for path in BUNDLES_ROOT.glob("*/configs/metadata.json"))


def run_bundle(
    bundle: str,
    workflow: str,
    *,
    overlays: Sequence[str | Path] = (),
    overrides: Mapping[str, Any],
) -> None:
    """Run ``workflow`` of ``bundle`` to its end.

    Args:
        bundle: name of a folder of ``bundles/``.
        workflow: ``train``, ``evaluate`` or ``inference``.
        overlays: names of further files of ``configs/``, or paths, merged in this order.
        overrides: config ids such as ``max_epochs`` or ``train::trainer::amp`` with their values.

    Raises:
        ValueError: an unknown bundle or overlay, or an override of a setting that does not exist,
            which MONAI would add without a word.
    """
    files = config_files(bundle, workflow, overlays)
    configs = BUNDLES_ROOT / bundle / "configs"
    config = merged_config(files)
    for name in overrides:
        _check_override(name, config)
    executed = merged_config(files, overrides)
    if workflow == "train":
        write_config(Path(overrides["run_dir"]), executed, trained_keys(bundle))
    # MONAI repeats its arguments line by line; the executed config is in the run's folder.
    for name in ("scripts", "workflows"):
        logging.getLogger(f"monai.bundle.{name}").setLevel(logging.ERROR)
    run_config(
        config_file=[str(file) for file in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        **overrides,
    )


def config_files(bundle: str, workflow: str, overlays: Sequence[str | Path]) -> list[Path]:
    """The files that make up a workflow, in the order in which they are merged."""
    if bundle not in bundle_names():
        raise ValueError(f"bundle must be one of {', '.join(bundle_names())}, got {bundle}")
    configs = BUNDLES_ROOT / bundle / "configs"
    files = [configs / "common.yaml", configs / f"{workflow}.yaml"]
    if workflow == "train":
        files.append(TRACKING)
    for overlay in overlays:
        path = configs / f"{overlay}.yaml"
        if not path.is_file():
            path = Path(overlay)
        if not path.is_file():
            raise ValueError(
                f"overlay must be a file of {configs.name}/ or a path, got {overlay}; "
                f"there are {', '.join(sorted(file.stem for file in configs.glob('*.yaml')))}"
            )
        files.append(path)
    return files


def merged_config(files: Sequence[Path], overrides: Mapping[str, Any] | None = None) -> Any:
    """The raw config of ``files`` and ``overrides`` together, references unresolved."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update(dict(overrides or {}))
    return parser.get()


def trained_keys(bundle: str) -> set[str]:
    """The keys of common.yaml that belong to the weights."""
    with open(BUNDLES_ROOT / bundle / "configs" / "common.yaml") as file:
        return set(yaml.safe_load(file)) - PLACES


def write_config(run_dir: Path, config: Mapping[str, Any], trained: set[str]) -> None:
    """Write the executed config, and what the weights need of it, into ``run_dir``.

    Raises:
        ValueError: if the folder cannot be written.
    """
    content = {key: value for key, value in config.items() if key != "_meta_"}
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        for name, part in {
            "config.yaml": content,
            "trained.yaml": {key: value for key, value in content.items() if key in trained},
        }.items():
            (run_dir / name).write_text(yaml.safe_dump(part, sort_keys=False))
    except OSError as error:
        raise ValueError(
            f"run_dir must be a writable folder, got {run_dir} ({error.strerror})"
        ) from error


def _check_override(name: str, config: Any) -> None:
    part = config
    for step in name.replace("#", "::").split("::"):
        inside = isinstance(part, list) and step.isdecimal() and int(step) < len(part)
        if not inside and not (isinstance(part, dict) and step in part):
            known = list(part) if isinstance(part, dict) else []
            near = difflib.get_close_matches(step, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"an override must name a setting of the config, got {name}{hint}")
        part = part[int(step)] if isinstance(part, list) else part[step]
