"""``python -m benchmarks.cohort_plan``: machine time and money for a cohort, from one scan's cost.

Reads what ``python -m benchmarks.cohort_cost`` measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cohort_cost import CONVERT, CPU, FIND, MEMORY, WRITTEN
from benchmarks.report import RESULTS

NLST_SCANS = 26_000
COLUMNS = ("step", "s a scan", "core hours", "hours", "GiB a core", "GB on disk")


class Step(NamedTuple):
    """What one scan costs: seconds of one core, memory of its process, and size on disk."""

    name: str
    core_s: float
    peak_gib: float
    written_mb: float


class Plan(NamedTuple):
    """What a step takes for a cohort, with one shard on each core.

    Attributes:
        step: of which.
        core_hours: of all shards.
        hours: until the last shard ends.
        disk_gb: of what is written.
    """

    step: Step
    core_hours: float
    hours: float
    disk_gb: float


def read_steps(path: Path) -> tuple[list[Step], float]:
    """The steps, and the seconds to find one scan, which every shard looks up of all scans.

    Raises:
        ValueError: no such file, or not the benchmark's.
    """
    try:
        rows = {row["what"]: float(row["ours"]) for row in json.loads(path.read_text())["rows"]}
        names = [what.removesuffix(f": {CPU}") for what in rows if what.endswith(f": {CPU}")]
        steps = [_step(rows, name) for name in names if name != FIND]
        return steps, rows[f"{FIND}: {CPU}"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: must be what python -m benchmarks.cohort_cost wrote, got "
            f"{type(error).__name__}: {error}"
        ) from error


def plan(step: Step, *, scans: int, cores: int, find_s: float) -> Plan:
    """Time for a step over a cohort, a shard on each core.

    The slowest shard has the most scans, ``ceil(scans / cores)``. Every shard first looks up all
    scans, ``find_s`` seconds each.

    Raises:
        ValueError: no scan or no core.
    """
    for name, value in (("scans", scans), ("cores", cores)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    overhead_s = scans * find_s
    most = -(-scans // cores)
    return Plan(
        step,
        core_hours=(scans * step.core_s + min(cores, scans) * overhead_s) / 3600,
        hours=(most * step.core_s + overhead_s) / 3600,
        disk_gb=scans * step.written_mb / 1000,
    )


def table(plans: Sequence[Plan], price_per_core_hour: float | None) -> str:
    """The plans in Markdown; with a price each one's cost, in the unit of the price."""
    priced = price_per_core_hour is not None
    header = [*COLUMNS, *(["cost"] if priced else [])]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for one in plans:
        cells = [
            one.step.name,
            f"{one.step.core_s:.1f}",
            f"{one.core_hours:.0f}",
            f"{one.hours:.1f}",
            f"{one.step.peak_gib:.1f}",
            f"{one.disk_gb:.0f}",
        ]
        if price_per_core_hour is not None:
            cells.append(f"{one.core_hours * price_per_core_hour:.2f}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0, or 1 after one sentence on a rule broken."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cohort_plan",
        description=__doc__,
        epilog="Seconds are those of one core as the benchmark measured them, on its machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--scans", type=int, default=NLST_SCANS, help="of the cohort; by default about NLST's")
    add("--cores", type=int, default=100, help="one shard on each")
    add("--price-per-core-hour", type=float, default=None, help="yours, in any currency")
    add("--measured", type=Path, default=RESULTS / "cohort_cost.json", help="by cohort_cost")
    options = parser.parse_args(arguments)
    try:
        price = options.price_per_core_hour
        if price is not None and not 0 <= price < float("inf"):
            raise ValueError(f"price-per-core-hour must be 0 or more, got {price}")
        steps, find_s = read_steps(options.measured)
        plans = [
            plan(step, scans=options.scans, cores=options.cores,
                 find_s=find_s if step.name == CONVERT else 0)
            for step in steps
        ]  # fmt: skip
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.scans} scans, {options.cores} shards of one core each\n")
    print(table(plans, price))
    return 0


def _step(rows: Mapping[str, float], name: str) -> Step:
    return Step(name, *(rows[f"{name}: {what}"] for what in (CPU, MEMORY, WRITTEN)))


if __name__ == "__main__":
    sys.exit(main())
