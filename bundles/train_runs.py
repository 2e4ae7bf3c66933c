"""Trainings and evaluations that are left to do, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from tqdm import tqdm

from bundles.comparison_runs import ComparisonRun
from bundles.comparison_table import failed_line
from bundles.side_by_side import INTERRUPTED, Job, run_side_by_side

Failures = dict[str, dict[str, str]]


def train_runs(runs: Sequence[ComparisonRun], jobs: int) -> Failures:
    """Do what is left of every run, ``jobs`` at a time, which share the processor's cores.

    Returns:
        Name of each run that failed to its name, error and log.

    Raises:
        ValueError: a run's folder holds another training, before anything is trained.
    """
    by_name = {run.name: run for run in runs}
    todo = [Job(name=run.name, steps=run.steps(), log=run.training.log) for run in runs]
    for run in runs:
        run.begin()
    failed: Failures = {}
    done = sum(not job.steps for job in todo)
    bar = tqdm(total=len(runs), initial=done, desc="trainings", unit="run")

    def ended(job: Job, step: str, code: int, seconds: float) -> None:
        run = by_name[job.name]
        if step == "train":
            run.note_training(seconds, jobs=jobs, trained=code == 0)
        if code:
            stopped = "it was stopped; the same command goes on with it"
            reason = stopped if code in INTERRUPTED else run.training.failure(code)
            failure = {"run": job.name, "error": reason, "log": str(job.log)}
            failed[job.name] = failure
            tqdm.write(failed_line(failure))
        elif step == "train":
            return
        else:
            tqdm.write(f"{job.name}: trained in {run.record['training_seconds'] / 60:.1f} min")
        bar.update()

    threads = max(1, torch.get_num_threads() // jobs)
    # The bars of the programs would fill their logs.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    with bar:
        run_side_by_side(todo, at_once=jobs, environment=environment, ended=ended)
    return failed
