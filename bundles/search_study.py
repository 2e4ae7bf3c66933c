"""A search over the settings of a bundle: Optuna draws them, a training of each judges them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from bundles.search_judge import SearchJudge
from bundles.search_results import TrialRow, draw_history, trial_line, write_best, write_trials
from bundles.search_space import settings_of
from bundles.search_tracking import SearchTracking
from bundles.search_trial import SearchTrial
from bundles.training_program import TrainingProgram


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a search varies and how it judges.

    Attributes:
        training: what all trials have in common; its folder is that of the search.
        space: what is drawn for each setting.
        judge: of the trials.
    """

    training: TrainingProgram
    space: Mapping[str, BaseDistribution]
    judge: SearchJudge

    @property
    def folder(self) -> Path:
        return self.training.folder


class SearchStudy:
    """The trials of a search, kept in ``study.db`` of its folder.

    What is drawn for a trial depends on the trials before it alone, not on interruptions.

    Args:
        plan: of the search.
    """

    def __init__(self, plan: SearchPlan) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan = plan
        self._study: Study = optuna.create_study(
            storage=f"sqlite:///{plan.folder / 'study.db'}",
            study_name="search",
            direction="minimize" if plan.judge.minimize else "maximize",
            load_if_exists=True,
        )

    @property
    def mlflow_address(self) -> dict[str, str]:
        """Where an earlier part of the search was tracked; empty where there is none."""
        return self._study.user_attrs.get("mlflow", {})

    def rows(self) -> list[TrialRow]:
        """The trials that have ended, in their order."""
        return [self._row(trial) for trial in self._ended()]

    def best(self) -> TrialRow | None:
        """The best trial; None where none has a value."""
        if any(trial.value is not None for trial in self._ended()):
            return self._row(self._study.best_trial)
        return None

    def run(self, trials: int, *, timeout_s: float, tracking: SearchTracking) -> None:
        """Go on to ``trials`` trials in all; none begins once ``timeout_s`` are over.

        Raises:
            ValueError: a training of an earlier search still runs.
            KeyboardInterrupt: stopped; the same search goes on with the trial that it was at.
        """
        self._study.set_user_attr("mlflow", tracking.address)
        deadline = time.monotonic() + timeout_s
        # The bars of the programs would fill their logs.
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": tracking.address["uri"],
            "TQDM_DISABLE": "1",
        }
        while len(self._ended()) < trials and time.monotonic() < deadline:
            number, drawn = self._drawn()
            trial = self._trial(number, drawn, tracking.trial_tags)
            value = trial.run(self.plan.judge, environment)
            failed = TrialState.FAIL if value is None else None
            self._study.tell(number, value, state=failed)
            self._tell(number, value, tracking)

    def write(self) -> list[Path]:
        """The table, the best settings and the picture in the search's folder."""
        metric, folder = self.plan.judge.metric, self.plan.folder
        table, overlay, picture = (
            folder / name for name in ("trials.csv", "best.yaml", "history.png")
        )
        write_trials(self.rows(), metric, table)
        best = self.best()
        if best is None:
            return [table]
        write_best(best, metric, overlay)
        draw_history(self._study, metric, picture)
        return [table, overlay, picture]

    def _drawn(self) -> tuple[int, Mapping[str, Any]]:
        """Number and draw of the trial that was interrupted, or of a new one."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_whole(trial):
                return trial.number, trial.params
            self._study.tell(trial.number, state=TrialState.FAIL)  # cut off amid its draws
        # A sampler of one seed for all parts of a search would begin each with the same draws.
        self._study.sampler = TPESampler(seed=len(self._ended()))
        new = self._study.ask(dict(self.plan.space))
        return new.number, new.params

    def _trial(
        self, number: int, drawn: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> SearchTrial:
        name = f"trial-{number:04}"
        shared = self.plan.training
        own = {"run_name": f"{self.plan.folder.name}-{name}", "run_tags": dict(tags or {})}
        settings = {**shared.settings, **settings_of(drawn), **own}
        return SearchTrial(replace(shared, settings=settings, folder=self.plan.folder / name))

    def _tell(self, number: int, value: float | None, tracking: SearchTracking) -> None:
        metric = self.plan.judge.metric
        print(trial_line(self._row(self._study.trials[number]), metric), flush=True)
        if value is not None:
            best = self._study.best_value
            tracking.log({metric: value, f"best_{metric}": best}, trial=number)

    def _ended(self) -> list[FrozenTrial]:
        ended = (TrialState.COMPLETE, TrialState.FAIL)
        trials = self._study.get_trials(deepcopy=False, states=ended)
        return [trial for trial in trials if self._is_whole(trial)]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return trial.params.keys() == self.plan.space.keys()

    def _row(self, trial: FrozenTrial) -> TrialRow:
        noted = self._trial(trial.number, trial.params).record
        return TrialRow(
            name=f"trial-{trial.number:04}",
            settings=settings_of(trial.params),
            value=trial.value,
            epoch=noted["epoch"],
            seconds=noted["seconds"],
            error=noted["error"],
        )
