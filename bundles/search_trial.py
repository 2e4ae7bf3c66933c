"""One trial of a search: a training in a folder of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from bundles.search_judge import SearchJudge
from bundles.side_by_side import INTERRUPTED, Job, run_side_by_side
from bundles.training_program import TrainingProgram
from handlers.write_json import write_json

# A training that was killed goes on once; if it is killed again, it may be too large.
MAX_KILLS = 2


class SearchTrial:
    """A training with what Optuna drew.

    Args:
        training: in the trial's own folder.
    """

    def __init__(self, training: TrainingProgram) -> None:
        self.training = training

    @property
    def record(self) -> dict[str, Any]:
        """What was noted of the trial: ``seconds`` of training, ``kills``, ``error``, ``epoch``."""
        try:
            return json.loads(self._record_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"seconds": 0.0, "kills": 0, "error": None, "epoch": None}

    @property
    def _record_file(self) -> Path:
        return self.training.folder / "search_trial.json"

    def run(self, judge: SearchJudge, environment: Mapping[str, str]) -> float | None:
        """Train to the end, from where it had come to; the value, or None where it failed.

        Raises:
            ValueError: a program of an earlier search still trains in the folder.
            KeyboardInterrupt: the search was stopped, and this training with it.
        """
        self._check_free()
        self.training.folder.mkdir(parents=True, exist_ok=True)
        code = 0
        while not (self.training.has_begun() and self.training.has_all_epochs()):
            code = self._train(environment)
            if not (code < 0 or code in INTERRUPTED):
                break  # ended by itself, maybe before its last epoch
            self._note(kills=self.record["kills"] + 1)
            if self.record["kills"] >= MAX_KILLS:
                break
        if code:
            self._note(error=self.training.failure(code))
            return None
        found = judge.best_epoch(self.training.folder / "history.json")
        if found is None:
            self._note(error=f"no epoch has a finite {judge.metric} in the validation")
            return None
        epoch, value = found
        self._note(epoch=epoch)
        return value

    def _train(self, environment: Mapping[str, str]) -> int:
        codes: list[int] = []
        began = time.monotonic()
        job = Job(
            name=self.training.folder.name,
            steps={"train": self.training.command()},
            log=self.training.log,
        )
        try:
            run_side_by_side(
                [job],
                at_once=1,
                environment=environment,
                ended=lambda _job, _step, code, _seconds: codes.append(code),
            )
        finally:
            self._note(seconds=round(self.record["seconds"] + time.monotonic() - began, 1))
        return codes[0]

    def _note(self, **values: Any) -> None:
        write_json(self._record_file, {**self.record, **values})

    def _check_free(self) -> None:
        """A search that was killed outright leaves its training running."""
        folder = str(self.training.folder)
        marks = {f"run_dir={folder}", os.path.join(folder, "last.pt")}
        for process in psutil.process_iter(["cmdline"]):
            if marks & set(process.info["cmdline"] or []):
                raise ValueError(
                    f"{folder} must be free, but process {process.pid} of an earlier search still "
                    "trains in it: wait for it or end it"
                )
