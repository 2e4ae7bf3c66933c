"""What a comparison was made from, so that its numbers can be made again."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from bundles.comparison_plan import ComparisonPlan
from bundles.comparison_runs import ComparisonRun, differences
from cohorts.datalist import SPLITS, read_datalist
from handlers.mlflow_run import VERSIONS_OF
from handlers.three_planes import INTENDED_USE


def comparison_record(
    plan: ComparisonPlan,
    runs: Sequence[ComparisonRun],
    failed: Mapping[str, Mapping[str, str]],
    *,
    command: str,
) -> dict[str, Any]:
    """Scans, settings, seeds, times and versions behind the numbers, ready for JSON.

    Args:
        plan: arms and reference.
        runs: all runs of the comparison.
        failed: name of each run that failed to what is told of it.
        command: the command line.
    """
    first = runs[0]
    datalist = read_datalist(first.datalist)
    return {
        "intended_use": INTENDED_USE,
        "bundle": first.bundle,
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "datalist": {
            "name": datalist.get("name"),
            "sha256": first.datalist_sha256,
            "synthetic": datalist.get("synthetic"),
            "scans": {split: len(datalist[split]) for split in SPLITS},
        },
        "settings": dict(first.settings),
        "max_epochs": first.config()["max_epochs"],
        "seeds": sorted({run.seed for run in runs}),
        "reference": plan.reference,
        "notes": list(plan.notes),
        "arms": _arms(plan, runs),
        "runs": [_described(run) for run in runs if run.name not in failed],
        "failed": [dict(failure) for failure in failed.values()],
        "machine": {"system": platform.platform(), "device": _device()},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in VERSIONS_OF},
    }


def _arms(plan: ComparisonPlan, runs: Sequence[ComparisonRun]) -> dict[str, Any]:
    """Each arm with its overlays, and with the settings in which the arms are not all alike."""
    by_arm = {run.arm: run for run in reversed(runs)}
    differing = differences([by_arm[arm].config() for arm in plan.arms])
    return {
        arm: {
            "overlays": list(by_arm[arm].overlays),
            "settings": {name: values[number] for name, values in differing.items()},
        }
        for number, arm in enumerate(plan.arms)
    }


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _described(run: ComparisonRun) -> dict[str, Any]:
    record = run.record
    return {
        "arm": run.arm,
        "seed": run.seed,
        "folder": run.folder.name,
        "training_seconds": round(record["training_seconds"], 1),
        "parts": record["parts"],  # more than one where it was interrupted and went on
        "jobs": record["jobs"],  # that shared the machine
    }
