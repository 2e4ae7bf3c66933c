"""The results of an inference as files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from cohorts.readable_scans import ReadableScans, scan_path
from cohorts.shard_records import Outcome, shard_begun, shard_path, write_shard
from handlers.describe_checkpoint import describe_checkpoint
from handlers.exit_on_failures import exit_on_failures
from handlers.predictions_file import PREDICTIONS, write_predictions
from handlers.scan_records import ScanRecord, keep_record, kept_record, scan_fingerprint
from handlers.scan_report import ScanReport
from handlers.three_planes import INTENDED_USE
from handlers.writable_folder import writable_folder

logger = logging.getLogger(__name__)

SCAN_SUFFIX = re.compile(r"\.(nii|nii\.gz|mhd|mha|dcm)$", re.IGNORECASE)


class ScanWriter:
    """Writes what a task reports of each scan that an evaluator predicts.

    In ``output_dir``, ``predictions.json`` has for each scan its numbers and files, and for each
    that failed why; it is rewritten after every scan, so that an interrupted run keeps what it
    has. The evaluator takes batches of one, ``decollate: false``, that hold the network's input
    ``image``, the whole ``scan`` on its own grid, and ``source``, the path as it was given. Run
    ``finish`` after the evaluator.

    With a ``fingerprint`` each scan is also kept by itself, and one that was done under the same
    fingerprint, weights and settings of the report is not done again while its files are there.
    Where the dataset reads one of several shards, these may write into the same folder at once,
    and ``python -m bundles.merge_predictions`` writes ``predictions.json``.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans; keeps the failures.
        bundle: name of the bundle, for the record.
        checkpoint: path of the weights, for the record.
        report: what is written of each scan.
        fingerprint: a text for all else that the results depend on; None does every scan.

    Raises:
        ValueError: a shard without a fingerprint; or, when the evaluator starts, ``output_dir``
            cannot be written, the ``report`` does not let the run begin, or another process is
            at this shard.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans,
        *,
        bundle: str,
        checkpoint: str | Path | None = None,
        report: ScanReport,
        fingerprint: str | None = None,
    ) -> None:
        if dataset.shard.count > 1 and fingerprint is None:
            raise ValueError(
                f"a shard must have a fingerprint, got {dataset.shard} without; "
                "python -m bundles predict gives one"
            )
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.bundle = bundle
        self.checkpoint = checkpoint
        self.report = report
        self.fingerprint = fingerprint
        self._done: dict[str, ScanRecord] = {}
        self._names: dict[str, str] = {}
        self._fingerprints: dict[str, str] = {}
        self._header: dict[str, Any] = {}
        self._asked_at = 0.0
        self._shard = ExitStack()

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
            if self.dataset.shard.count > 1:
                self._write_shard()
        except OSError as error:
            raise SystemExit(f"{self._path}: must be writable, got {error.strerror}") from error
        finally:
            self._shard.close()
        failures = self.dataset.failures
        exit_on_failures(failures, len(self._done) + len(failures), self._path)

    @property
    def _path(self) -> Path:
        if self.dataset.shard.count > 1:
            return shard_path(self.output_dir, self.dataset.shard)
        return self.output_dir / PREDICTIONS

    def _start(self, _engine: Engine) -> None:
        writable_folder(self.output_dir)
        about = {
            "bundle": self.bundle,
            "checkpoint": describe_checkpoint(self.checkpoint),
            "intended_use": INTENDED_USE,
        }
        self._header = {**about, **self.report.start(about)}
        self._names = scan_names([scan_path(item) for item in self.dataset.items])
        self._done, self._fingerprints = {}, {}
        if self.fingerprint is not None:
            self._shard.close()
            self._shard.enter_context(shard_begun(self.output_dir, self.dataset.shard))
            self._find_done()
        self._write_predictions()

    def _find_done(self) -> None:
        """What earlier runs did, under the same fingerprint, of the scans of this one."""
        for scan in map(scan_path, self.dataset.part):
            print_ = scan_fingerprint(scan, [self.fingerprint, self._header])
            record = kept_record(self.output_dir, self._names[scan], print_)
            self._fingerprints[scan] = print_
            if record is not None:
                self._done[scan] = record
        self.dataset.pass_over(self._done)
        if self._done:
            logger.info(
                "%d of %d scans were done before and are kept",
                len(self._done),
                len(self.dataset.part),
            )

    def _start_clock(self, _engine: Engine) -> None:
        self._asked_at = time.monotonic()

    def _write_scan(self, engine: Engine) -> None:
        state: Any = engine.state
        batch, output = state.batch, state.output
        if output is None:
            return
        scan = str(batch["source"][0])
        try:
            result = self.report(
                output["pred"],
                image=batch["image"][0],
                scan=batch["scan"][0],
                name=self._names[scan],
                folder=self.output_dir,
            )
            seconds = round(time.monotonic() - self._asked_at, 2)
            entry = {"scan": scan, **result.numbers, "seconds": seconds}
            record = ScanRecord(entry, result.files, result.rows)
            if self.fingerprint is not None:
                keep_record(self.output_dir, self._names[scan], self._fingerprints[scan], record)
            self._done[scan] = record
        except Exception as error:  # a full disk, say: the other scans are still processed
            self.dataset.record_failure(scan, error)
        try:
            self._write_predictions()
        except OSError as error:  # finish() tries once more
            logger.error("%s: must be writable, got %s", self._path, error.strerror)

    def _write_predictions(self) -> None:
        """Of a shard nothing: its scans are kept one by one."""
        if self.dataset.shard.count == 1:
            write_predictions(
                self.output_dir,
                self._header,
                scans=self._ordered(),
                failed=self.dataset.failures,
                table=self.report.table,
            )

    def _ordered(self) -> list[ScanRecord]:
        return [
            self._done[scan] for scan in map(scan_path, self.dataset.part) if scan in self._done
        ]

    def _write_shard(self) -> None:
        failed = {one["scan"]: one for one in self.dataset.failures}
        outcomes: list[Outcome] = [
            {"name": self._names[scan], "fingerprint": self._fingerprints[scan]}
            | ({"failed": failed[scan]} if scan in failed else {})
            for scan in map(scan_path, self.dataset.part)
        ]
        run = {
            "scans": len(self.dataset.items),
            "names": hashlib.sha256(json.dumps(self._names).encode()).hexdigest(),
            "settings": self.fingerprint,
            "header": self._header,
            "table": self.report.table,
        }
        write_shard(self.output_dir, self.dataset.shard, run, outcomes)


def scan_names(scans: Sequence[str]) -> dict[str, str]:
    """What the files of each scan begin with: its name without suffix.

    A second scan of that name gets a number.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for scan in scans:
        stem = SCAN_SUFFIX.sub("", os.path.basename(os.path.abspath(scan))) or "scan"
        number, name = 1, stem
        while name.lower() in taken:  # some file systems take no notice of case
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[scan] = name
    return names
