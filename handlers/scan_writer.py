"""The results of an inference as files."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ignite.engine import Engine, Events
from monai.data import MetaTensor

from handlers.describe_checkpoint import describe_checkpoint
from handlers.exit_on_failures import exit_on_failures
from handlers.three_planes import INTENDED_USE
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json

if TYPE_CHECKING:
    from cohorts import ReadableScans

logger = logging.getLogger(__name__)

SCAN_SUFFIX = re.compile(r"\.(nii|nii\.gz|mhd|mha|dcm)$", re.IGNORECASE)


class ScanReport(Protocol):
    """What a task writes of each scan; a :class:`ScanWriter` does the rest."""

    def start(self, folder: Path, about: Mapping[str, Any], /) -> dict[str, Any]:
        """A run begins whose files go to ``folder``; returns what holds for all of its scans.

        ``about`` is what is said of every task: ``bundle``, ``checkpoint`` and ``intended_use``.

        Raises:
            ValueError: the run must not begin.
        """
        ...

    def __call__(
        self,
        prediction: Mapping[str, Any],
        *,
        image: MetaTensor,
        scan: MetaTensor,
        name: str,
        folder: Path,
    ) -> dict[str, Any]:
        """Writes the files of one scan, and returns its numbers.

        Args:
            prediction: ``pred`` of the engine's output, a batch of one.
            image: the network's input ``(C, *spatial)`` with its affine.
            scan: the whole scan ``(1, *spatial)`` on its own grid.
            name: what the files' names begin with.
            folder: where they go.
        """
        ...


class ScanWriter:
    """Writes what a task reports of each scan that an evaluator predicts.

    In ``output_dir``, ``predictions.json`` has for each scan its numbers and files, and for each
    that failed why; it is rewritten after every scan, so that an interrupted run keeps what it
    has. The evaluator takes batches of one, ``decollate: false``, that hold the network's input
    ``image``, the whole ``scan`` on its own grid, and ``source``, the path as it was given. Run
    ``finish`` after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans; keeps the failures.
        bundle: name of the bundle, for the record.
        checkpoint: path of the weights, for the record.
        report: what is written of each scan.

    Raises:
        ValueError: when the evaluator starts, if ``output_dir`` cannot be written, or the
            ``report`` does not let the run begin.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans,
        *,
        bundle: str,
        checkpoint: str | Path | None = None,
        report: ScanReport,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.bundle = bundle
        self.checkpoint = checkpoint
        self.report = report
        self._scans: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._header: dict[str, Any] = {}
        self._asked_at = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_scan)

    def predict(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any] | None:
        """The evaluator's own iteration, guarded: give it as its ``iteration_update``.

        A scan on which the network fails, for want of memory say, is written down as failed.
        """
        try:
            return engine._iteration(engine, batch)
        except Exception as error:
            self.dataset.record_failure(batch["source"][0], error)
            return None

    def finish(self) -> None:
        """Writes the last failures, and ends the program with a non-zero code if there are any.

        Raises:
            SystemExit: a scan failed, or ``predictions.json`` could not be written.
        """
        try:
            self._write_predictions()
        except OSError as error:
            raise SystemExit(f"{self._path}: must be writable, got {error.strerror}") from error
        failures = self.dataset.failures
        exit_on_failures(failures, len(self._scans) + len(failures), self._path)

    @property
    def _path(self) -> Path:
        return self.output_dir / "predictions.json"

    def _start(self, _engine: Engine) -> None:
        writable_folder(self.output_dir)
        self._scans, self._names = [], set()
        about = {
            "bundle": self.bundle,
            "checkpoint": describe_checkpoint(self.checkpoint),
            "intended_use": INTENDED_USE,
        }
        self._header = {**about, **self.report.start(self.output_dir, about)}
        self._write_predictions()

    def _start_clock(self, _engine: Engine) -> None:
        self._asked_at = time.monotonic()

    def _write_scan(self, engine: Engine) -> None:
        state: Any = engine.state
        batch, output = state.batch, state.output
        if output is None:
            return
        source = str(batch["source"][0])
        try:
            numbers = self.report(
                output["pred"],
                image=batch["image"][0],
                scan=batch["scan"][0],
                name=self._name(source),
                folder=self.output_dir,
            )
            seconds = round(time.monotonic() - self._asked_at, 2)
            self._scans.append({"scan": source, **numbers, "seconds": seconds})
        except Exception as error:  # a full disk, say: the other scans are still processed
            self.dataset.record_failure(source, error)
        try:
            self._write_predictions()
        except OSError as error:  # finish() tries once more
            logger.error("%s: must be writable, got %s", self._path, error.strerror)

    def _name(self, source: str) -> str:
        """The scan's name without suffix; a second scan of that name gets a number."""
        stem = SCAN_SUFFIX.sub("", os.path.basename(os.path.abspath(source))) or "scan"
        number, name = 1, stem
        while name.lower() in self._names:  # some file systems take no notice of case
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.lower())
        return name

    def _write_predictions(self) -> None:
        failed = self.dataset.failures
        write_json(self._path, {**self._header, "scans": self._scans, "failed": failed})
