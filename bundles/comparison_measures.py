"""The measures of a comparison, from each run's per_scan.csv."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bundles.comparison_plan import ComparisonPlan, Measure
from metrics import (
    ArmEstimates,
    Estimate,
    paired_differences,
    weighted_auroc,
    weighted_mean,
    weighted_median,
)
from metrics.bootstrap_interval import FloatArray, weighted_ratio
from metrics.paired_differences import Statistic

Columns = dict[str, list[str]]


def read_per_scan(path: Path) -> Columns:
    """The columns of a ``per_scan.csv`` as text, one entry per scan.

    Raises:
        ValueError: there are no scans in it, or no ``patient_id``.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "patient_id" not in rows[0]:
        raise ValueError(f"{path} must have a patient_id for each of its scans, got {len(rows)}")
    return {name: [row[name] for row in rows] for name in rows[0]}


def measured(plan: ComparisonPlan, runs: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Every measure of every arm, ready for JSON.

    Args:
        plan: the measures and the reference.
        runs: arm to the ``per_scan.csv`` of each of its seeds; the reference is one of them.

    Raises:
        ValueError: files of other scans, or one without a column that a measure needs.
    """
    tables = {arm: [read_per_scan(path) for path in paths] for arm, paths in runs.items()}
    patients = tables[plan.reference][0]["patient_id"]
    for arm, paths in runs.items():
        for path, table in zip(paths, tables[arm], strict=True):
            if table["patient_id"] != patients:
                raise ValueError(
                    f"all runs must be evaluated on the same scans, got others: {path}"
                )
    content = {}
    for name, measure in plan.measures.items():
        scans, arms = measure_arms(measure, tables, plan.reference)
        content[name] = {
            "title": measure.title,
            "decimals": measure.decimals,
            "scans": scans,
            "arms": {arm: _entry(estimates) for arm, estimates in arms.items()},
        }
    return content


def measure_arms(
    measure: Measure, tables: Mapping[str, Sequence[Columns]], reference: str
) -> tuple[int, dict[str, ArmEstimates]]:
    """How many scans one measure is of, and its estimates for each arm.

    A scan counts where ``measure.where`` holds and no arm and seed has an empty column, so that
    all arms are judged on the same scans.

    Raises:
        ValueError: a column that the measure needs is missing, or holds a word.
    """
    first = tables[reference][0]
    counted = np.ones(len(first["patient_id"]), dtype=bool)
    for column, allowed in measure.where.items():
        counted &= np.isin(_column(first, column), list(allowed))
    numbers = {
        arm: [np.array([_numbers(table, column) for column in measure.columns]) for table in seeds]
        for arm, seeds in tables.items()
    }
    for seeds in numbers.values():
        for columns in seeds:
            counted &= np.isfinite(columns).all(axis=0)
    statistics = {
        arm: [_statistic(measure.kind, columns[:, counted]) for columns in seeds]
        for arm, seeds in numbers.items()
    }
    patients = np.array(first["patient_id"])[counted].tolist()
    return len(patients), paired_differences(statistics, patients, reference=reference)


def _statistic(kind: str, columns: FloatArray) -> Statistic:
    statistics: dict[str, Callable[..., FloatArray]] = {
        "auroc": weighted_auroc,
        "mean": weighted_mean,
        "median": weighted_median,
        "ratio_of_means": weighted_ratio,
    }
    return partial(statistics[kind], *columns)


def _column(table: Columns, name: str) -> list[str]:
    if name not in table:
        raise ValueError(f"per_scan.csv must have the column {name}, got {', '.join(table)}")
    return table[name]


def _numbers(table: Columns, name: str) -> list[float]:
    try:
        return [float(text) if text else float("nan") for text in _column(table, name)]
    except ValueError as error:
        raise ValueError(f"{name} of per_scan.csv: {error}") from error


def _entry(arm: ArmEstimates) -> dict[str, Any]:
    difference = arm.difference
    return {
        **_named(arm.mean, ""),
        "seed_values": arm.seed_values,
        "seed_sd": arm.seed_sd,
        **({} if difference is None else _named(difference, "difference")),
    }


def _named(estimate: Estimate, prefix: str) -> dict[str, float | None]:
    if not prefix:
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    ends = {f"{prefix}_low": estimate.low, f"{prefix}_high": estimate.high}
    return {prefix: estimate.value, **ends}
