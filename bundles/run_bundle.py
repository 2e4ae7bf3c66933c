"""One workflow of one bundle, as ``python -m monai.bundle run`` would run it, with checks first."""

from __future__ import annotations

import difflib
import logging
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch.distributed as dist
from monai.bundle import run as run_config

from bundles.bundle_config import (
    bundle_configs,
    config_files,
    merged_config,
    remove_config,
    trained_keys,
    write_config,
)
from handlers.join_ranks import join_ranks


def run_bundle(
    bundle: str,
    workflow: str,
    *,
    overlays: Sequence[str | Path] = (),
    overrides: Mapping[str, Any],
) -> None:
    """Run ``workflow`` of ``bundle`` to its end, on all processes that torchrun started.

    Args:
        bundle: name of a folder of ``bundles/``.
        workflow: ``train``, ``evaluate`` or ``inference``.
        overlays: names of further files of ``configs/``, or paths, merged in this order.
        overrides: config ids such as ``max_epochs`` or ``train::trainer::amp`` with their values.

    Raises:
        ValueError: an unknown bundle or overlay, or an override that does not fit the config.
    """
    files = config_files(bundle, workflow, [*overlays, *_rank_overlays(workflow)])
    check_overrides(overrides, merged_config(files))
    if workflow != "train":
        _run(bundle, files, overrides)
        return
    run_dir = Path(overrides["run_dir"])
    if idist.get_rank() == 0:
        write_config(run_dir, merged_config(files, overrides), trained_keys(bundle))
    try:
        _run(bundle, files, overrides)
    except BaseException:
        # A training that never began leaves no folder behind.
        if idist.get_rank() == 0 and not (run_dir / "last.pt").exists():
            remove_config(run_dir)
        raise


def resume_bundle(bundle: str, checkpoint: Path, overrides: Mapping[str, Any]) -> None:
    """Go on with a training in its own folder, under the config that it was begun with.

    Args:
        bundle: name of a folder of ``bundles/``.
        checkpoint: the ``last.pt`` of a run, with its ``config.yaml`` beside it.
        overrides: as for `run_bundle`, such as more ``max_epochs``.

    Raises:
        ValueError: no such run, or an override of a setting that belongs to the weights.
    """
    run_dir = checkpoint.resolve().parent
    config_file = run_dir / "config.yaml"
    if not (checkpoint.is_file() and config_file.is_file()):
        raise ValueError(
            f"--resume must name the last.pt of a run with its config.yaml, got {checkpoint}"
        )
    fixed = sorted(name for name in overrides if name.split("::")[0] in trained_keys(bundle))
    if fixed:
        raise ValueError(
            f"a resumed training must keep the settings of its weights, got {', '.join(fixed)}"
        )
    # What goes on is a tracked run of its own.
    run_name = f"{run_dir.name}-resumed-{secrets.token_hex(2)}"
    overrides = {"run_name": run_name, **overrides, "resume": str(checkpoint)}
    check_overrides(overrides, merged_config([config_file]))
    overlays = [bundle_configs(bundle) / f"{name}.yaml" for name in _rank_overlays("train")]
    _run(bundle, [config_file, *overlays], overrides)


def _run(bundle: str, files: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    configs = bundle_configs(bundle)
    # MONAI repeats its arguments line by line; the executed config is in the run's folder.
    for name in ("scripts", "workflows"):
        logging.getLogger(f"monai.bundle.{name}").setLevel(logging.ERROR)
    # MONAI passes over an override that is None.
    given = {name: "$None" if value is None else value for name, value in overrides.items()}
    try:
        run_config(
            config_file=[str(file) for file in files],
            meta_file=str(configs / "metadata.json"),
            logging_file=str(configs / "logging.conf"),
            **given,
        )
    except RuntimeError as error:
        if idist.get_world_size() > 1 and _is_of_lost_rank(error):
            raise ConnectionError(
                "every rank must live to the end, got another that ended; torchrun's report says "
                "which one and why"
            ) from error
        raise


def _is_of_lost_rank(error: BaseException) -> bool:
    while error.__cause__ is not None:
        error = error.__cause__
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def check_overrides(overrides: Mapping[str, Any], config: Any) -> None:
    """MONAI adds a setting that does not exist without a word, and breaks late on a wrong type.

    Raises:
        ValueError: an override names no setting of the config, or is no number where that is one.
    """
    for name, value in overrides.items():
        replaced = _setting(name, config)
        is_number = isinstance(replaced, (int, float)) and not isinstance(replaced, bool)
        if is_number and not isinstance(value, (int, float)):
            raise ValueError(f"{name} must be a number as {replaced} is, got {value!r}")


def _rank_overlays(workflow: str) -> list[str]:
    """What the processes that torchrun started need to work as one; nothing for one process.

    Raises:
        ValueError: a workflow that several processes do as shards, not as ranks.
    """
    join_ranks()
    ranks = idist.get_world_size()
    if ranks > 1 and workflow == "inference":
        raise ValueError(
            f"predict must be spread over processes by --shard, got {ranks} processes of torchrun"
        )
    return [f"multi_gpu_{workflow}"] if ranks > 1 else []


def _setting(name: str, config: Any) -> Any:
    part = config
    for step in name.replace("#", "::").split("::"):
        if isinstance(part, list) and step.isdecimal() and int(step) < len(part):
            part = part[int(step)]
        elif isinstance(part, dict) and step in part:
            part = part[step]
        else:
            near = difflib.get_close_matches(step, list(part) if isinstance(part, dict) else [], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"an override must name a setting of the config, got {name}{hint}")
    return part
