"""The folder that an evaluation is written to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ignite.distributed as idist

from handlers.describe_checkpoint import describe_checkpoint
from handlers.exit_on_failures import exit_on_failures
from handlers.three_planes import INTENDED_USE
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json
from handlers.write_table import write_table
from metrics.gather_ranks import gather_scans

if TYPE_CHECKING:
    from cohorts import ReadableScans

Scan = TypeVar("Scan")


class EvaluationFolder:
    """``evaluation.json`` and ``per_scan.csv``: what every evaluation says, whatever its task.

    Several ranks may share the scans; `gather` then brings them together for the first, which
    writes.

    Args:
        path: the folder, made if needed.
        dataset: the scans, where they come from a ``ReadableScans``: those that failed are
            listed.
        datalist: the datalist JSON; its name and whether it is synthetic stand with the numbers.
        checkpoint: path of the weights, for the record.
    """

    def __init__(
        self,
        path: str | Path,
        dataset: ReadableScans | None = None,
        *,
        datalist: str | Path | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.dataset = dataset
        self.datalist = datalist
        self.checkpoint = checkpoint
        self._failures: list[dict[str, str]] = []

    def start(self) -> None:
        """Tries whether the folder can be written, before any scan is looked at.

        Raises:
            ValueError: it cannot.
        """
        writable_folder(self.path)

    def gather(self, scans: Sequence[Scan]) -> list[Scan]:
        """The ``scans`` of all ranks in the datalist's order, once each rank has seen its own."""
        self._failures = gather_scans([] if self.dataset is None else self.dataset.failures)
        return gather_scans(scans)

    @property
    def is_written_here(self) -> bool:
        """Whether this rank writes the files, the first."""
        return idist.get_rank() == 0

    def finish(self, scans: int) -> None:
        """Ends the program with a non-zero code if a scan failed beside the ``scans`` evaluated.

        Raises:
            SystemExit: a scan failed.
        """
        if self.is_written_here:
            exit_on_failures(self._failures, scans + len(self._failures), self._report)

    def cohort(self) -> dict[str, Any]:
        """``datalist``, its name, and ``synthetic``; None where there is no datalist."""
        if self.datalist is None:
            return {"datalist": None, "synthetic": None}
        content = json.loads(Path(self.datalist).read_text(encoding="utf-8"))
        return {"datalist": content.get("name"), "synthetic": content.get("synthetic")}

    def scans_in_words(self, count: int) -> str:
        """For a title: "12 synthetic phantoms", or "12 scans"."""
        noun = "synthetic phantom" if self.cohort()["synthetic"] else "scan"
        return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

    def write(self, content: Mapping[str, Any]) -> None:
        """Writes ``evaluation.json``: the task's ``content`` between cohort and failures."""
        about = {
            "intended_use": INTENDED_USE,
            "checkpoint": describe_checkpoint(self.checkpoint),
            **self.cohort(),
        }
        write_json(self._report, {**about, **content, "failed": self._failures})

    def write_scans(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes ``per_scan.csv``, a row for each scan."""
        values = ([row[column] for column in columns] for row in rows)
        write_table(self.path / "per_scan.csv", columns, values)

    @property
    def _report(self) -> Path:
        return self.path / "evaluation.json"
