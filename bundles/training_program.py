"""One training by a program of its own, in a folder of its own, begun or gone on with."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from bundles.bundle_config import config_files, merged_config

PROGRAM = (sys.executable, "-m", "bundles")


@dataclass(frozen=True, kw_only=True)
class TrainingProgram:
    """``python -m bundles train`` as another command starts it.

    Attributes:
        bundle: name of a folder of ``bundles/``.
        overlays: of the training, in the order in which they are merged.
        settings: config ids with their values.
        datalist: the datalist JSON, absolute.
        folder: the run's own, absolute.
    """

    bundle: str
    overlays: Sequence[str]
    settings: Mapping[str, Any]
    datalist: Path
    folder: Path

    @property
    def log(self) -> Path:
        """File for what the program says."""
        return self.folder / "log.txt"

    def config(self) -> dict[str, Any]:
        """The whole config of this training."""
        files = config_files(self.bundle, "train", self.overlays)
        config = merged_config(files, {**self.settings, "run_dir": str(self.folder)})
        return yaml.safe_load(yaml.safe_dump(config))

    def command(self) -> list[str]:
        """The command that begins the training, or goes on where it had come to."""
        train = [*PROGRAM, "train", self.bundle]
        if self.has_begun():
            return [*train, "--resume", str(self._last)]
        train += ["--datalist", str(self.datalist)]
        for overlay in self.overlays:
            train += ["--overlay", overlay]
        return train + set_options({**self.settings, "run_dir": str(self.folder)})

    def has_begun(self) -> bool:
        """Whether there is a ``last.pt`` to go on with."""
        return self._last.is_file()

    def has_all_epochs(self) -> bool:
        """Whether nothing is left to train, ``last.pt`` being there."""
        trainer = torch.load(self._last, weights_only=True, map_location="cpu")["trainer"]
        return trainer["iteration"] // trainer["epoch_length"] >= self.config()["max_epochs"]

    def failure(self, code: int) -> str:
        """Why the log's last command ended with ``code``: its error there, or its last line."""
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        text = self.log.read_text(encoding="utf-8", errors="replace")
        said = text.rpartition("\n$ ")[2]
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        # MONAI wraps what went wrong: of several exceptions the first is the reason.
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
        return [*lines[-1:], *raised[:1], *errors[-1:]][-1]

    @property
    def _last(self) -> Path:
        return self.folder / "last.pt"


def set_options(settings: Mapping[str, Any]) -> list[str]:
    """``--set`` for each setting."""
    options = []
    for name, value in settings.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
        options += ["--set", f"{name}={text.removesuffix('...' + chr(10)).strip()}"]
    return options
