"""The comparison of a bundle: its arms trained alike, judged on the same scans, in one table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundles.alone_in import alone_in
from bundles.bundle_config import config_files, merged_config
from bundles.comparison_measures import measured
from bundles.comparison_picture import draw_comparison
from bundles.comparison_plan import ComparisonPlan, comparison_plan
from bundles.comparison_record import comparison_record
from bundles.comparison_runs import OWN_SETTINGS, ComparisonRun
from bundles.comparison_table import markdown, terminal_lines
from bundles.run_bundle import check_overrides
from bundles.train_runs import train_runs
from cohorts.datalist import SPLITS, load_datalist
from cohorts.replaced_file import replaced_file
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json


def compare_arms(
    bundle: str,
    datalist: Path,
    *,
    output: Path,
    command: str,
    seeds: int,
    jobs: int,
    arms: Sequence[str],
    overlays: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Train every arm with the seeds 0 to ``seeds - 1``, evaluate, and write the comparison.

    Each run has the folder ``<output>/<arm>-seed<seed>`` with its ``log.txt``. What is finished
    there under the same settings is kept, what was interrupted goes on, and the rest is trained.
    ``comparison.json``, ``comparison.md`` and ``comparison.png`` stand beside the runs.

    Args:
        bundle: name of a folder of ``bundles/`` with a ``comparison.yaml``.
        datalist: the datalist JSON, with all three splits.
        output: folder of it all.
        command: what the table names as the command that made it.
        seeds: 1 or more.
        jobs: trainings at a time, 1 or more, which share the processor's cores.
        arms: those of the plan to compare; all where empty.
        overlays: of every arm, before its own.
        settings: config ids with their values, of every arm.

    Raises:
        ValueError: a rule is broken, before anything is trained.
        SystemExit: a run failed; the others are in the table all the same.
    """
    plan = comparison_plan(bundle, arms)
    for name, value in {"seeds": seeds, "jobs": jobs}.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    _check_settings(bundle, plan, overlays, settings)
    for split in SPLITS:
        load_datalist(datalist, split)
    digest = hashlib.sha256(datalist.read_bytes()).hexdigest()
    output = writable_folder(output).resolve()
    runs = [
        ComparisonRun(
            bundle=bundle,
            arm=arm,
            seed=seed,
            overlays=[*overlays, *plan.arms[arm]],
            settings=settings,
            datalist=datalist.resolve(),
            datalist_sha256=digest,
            folder=output / f"{arm}-seed{seed}",
        )
        for seed in range(seeds)
        for arm in plan.arms
    ]
    with alone_in(output, "comparison"):
        failed = train_runs(runs, jobs)
        record = comparison_record(plan, runs, failed, command=command)
        _write(output, plan, runs, record)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")


def _check_settings(
    bundle: str, plan: ComparisonPlan, overlays: Sequence[str], settings: Mapping[str, Any]
) -> None:
    for name in OWN_SETTINGS:
        if name in settings:
            raise ValueError(f"--set must not name {name}, which each run has of its own")
    for arm in plan.arms.values():
        files = config_files(bundle, "train", [*overlays, *arm])
        check_overrides(settings, merged_config(files))


def _write(
    output: Path, plan: ComparisonPlan, runs: Sequence[ComparisonRun], record: dict[str, Any]
) -> None:
    failed = {failure["run"] for failure in record["failed"]}
    files: dict[str, list[Path]] = {}
    for run in runs:
        if run.name not in failed:
            files.setdefault(run.arm, []).append(run.per_scan)
    if plan.reference not in files:
        raise SystemExit(f"the reference {plan.reference} has failed with every seed: no table")
    content = {**record, "measures": measured(plan, files)}
    write_json(output / "comparison.json", content)
    with replaced_file(output / "comparison.md") as partial:
        partial.write_text(markdown(content), encoding="utf-8")
    draw_comparison(content, output / "comparison.png")
    print("\n".join(["", *terminal_lines(content), "", f"written: {output / 'comparison.md'}"]))
