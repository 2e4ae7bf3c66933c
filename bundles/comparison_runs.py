"""The trainings of a comparison: which folder each has, and what is still to be done in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bundles.bundle_config import PLACES
from bundles.training_program import PROGRAM, TrainingProgram, set_options
from handlers.describe_checkpoint import describe_checkpoint
from handlers.write_json import write_json

# Settings that each run gets from the comparison.
OWN_SETTINGS = ("run_dir", "run_name", "seed", "data_list")
# Settings that tell where and under what name, not how, a network was trained.
_NO_DIFFERENCE = PLACES | {"run_name", "resume"}


@dataclass(frozen=True, kw_only=True)
class ComparisonRun:
    """One arm trained with one seed, and evaluated.

    Attributes:
        bundle: name of a folder of ``bundles/``.
        arm: its name in the plan.
        seed: of the training.
        overlays: of the training, in the order in which they are merged.
        settings: config ids with their values, the same for all runs.
        datalist: the datalist JSON, absolute.
        datalist_sha256: of that file.
        folder: the run's own, absolute.
    """

    bundle: str
    arm: str
    seed: int
    overlays: Sequence[str]
    settings: Mapping[str, Any]
    datalist: Path
    datalist_sha256: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"

    @property
    def per_scan(self) -> Path:
        return self.folder / "evaluation" / "per_scan.csv"

    @property
    def record(self) -> dict[str, Any]:
        """What earlier calls noted of this run."""
        try:
            return json.loads(self._record_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {
                "datalist_sha256": None,
                "training_seconds": 0.0,
                "parts": 0,
                "jobs": 0,
                "trained": False,
            }

    @property
    def _record_file(self) -> Path:
        return self.folder / "comparison_run.json"

    @property
    def training(self) -> TrainingProgram:
        return TrainingProgram(
            bundle=self.bundle,
            overlays=self.overlays,
            settings={**self.settings, "run_name": self.name, "seed": self.seed},
            datalist=self.datalist,
            folder=self.folder,
        )

    def config(self) -> dict[str, Any]:
        """The whole config of this training."""
        return self.training.config()

    def steps(self) -> dict[str, list[str]]:
        """The commands that are still to be run, none where the run is finished.

        Raises:
            ValueError: the folder holds a training under other settings or on other scans.
        """
        evaluate = [*PROGRAM, "evaluate", self.bundle, "--run", str(self.folder)]
        evaluate += ["--datalist", str(self.datalist)]
        places = {name: value for name, value in self.settings.items() if name in PLACES}
        evaluate += set_options(places)
        if self._has_begun():
            self._check_same()
        if not self._is_trained():
            return {"train": self.training.command(), "evaluate": evaluate}
        return {} if self._is_evaluated() else {"evaluate": evaluate}

    def begin(self) -> None:
        """Make the folder, with a new record where nothing has been trained yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._has_begun():
            self._record_file.unlink(missing_ok=True)
            write_json(self._record_file, {**self.record, "datalist_sha256": self.datalist_sha256})

    def note_training(self, seconds: float, *, jobs: int, trained: bool) -> None:
        """Add the time of a training, or of a part of it, that ``jobs`` at a time shared."""
        record = self.record
        record["training_seconds"] += seconds
        record["parts"] += 1
        write_json(self._record_file, {**record, "jobs": jobs, "trained": trained})

    def _is_evaluated(self) -> bool:
        """Whether the weights have been judged on every scan."""
        try:
            text = self.per_scan.with_name("evaluation.json").read_text(encoding="utf-8")
            report = json.loads(text)
        except (FileNotFoundError, ValueError):
            return False
        if report.get("checkpoint") is None or report.get("failed"):
            return False
        weights = describe_checkpoint(self.folder / "model.pt") or {}
        same = report["checkpoint"]["sha256"] == weights.get("sha256")
        return same and self.per_scan.is_file()

    def _has_begun(self) -> bool:
        return self.record["trained"] or self.training.has_begun()

    def _is_trained(self) -> bool:
        if self.record["trained"]:  # its last.pt may have been removed to save room
            return True
        return self.training.has_begun() and self.training.has_all_epochs()

    def _check_same(self) -> None:
        """Raise ValueError if the folder's training is of another config or datalist."""
        advice = "name another --output, or remove that folder"
        if self.record["datalist_sha256"] != self.datalist_sha256:
            raise ValueError(f"{self.folder} must be of this datalist, got another; {advice}")
        found = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        for name, (old, new) in differences([found, self.config()]).items():
            raise ValueError(
                f"{self.folder} must be of these settings, got {name} {old} where {new} is asked "
                f"for; {advice}"
            )


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Config ids that are not the same in all ``configs``, with the value of each, None for none.

    Places and names of runs are left out.
    """
    flat = [dict(_leaves(config)) for config in configs]
    names = dict.fromkeys(name for leaves in flat for name in leaves)
    values = {name: [leaves.get(name) for leaves in flat] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in _NO_DIFFERENCE or key == "_meta_":
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}::")
        else:
            yield name, value
