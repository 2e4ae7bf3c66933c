"""What a task writes of each scan that an inference predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from monai.data import MetaTensor


class ScanTable(NamedTuple):
    """A CSV of all scans together; a row begins with the scan's name."""

    file: str
    columns: Sequence[str]


class ScanResult(NamedTuple):
    """What a task found in one scan.

    Attributes:
        numbers: JSON values for ``predictions.json``.
        files: names of the files that were written.
        rows: of the task's table.
    """

    numbers: dict[str, Any]
    files: list[str]
    rows: list[list[Any]]


class ScanReport(Protocol):
    """What a task writes of each scan; a :class:`handlers.ScanWriter` does the rest."""

    table: ScanTable | None
    """Where the rows go, if there are any."""

    def start(self, about: Mapping[str, Any], /) -> dict[str, Any]:
        """A run begins; returns what holds for all of its scans.

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
    ) -> ScanResult:
        """Writes the files of one scan, and returns its numbers.

        Args:
            prediction: ``pred`` of the engine's output, a batch of one.
            image: the network's input ``(C, *spatial)`` with its affine.
            scan: the whole scan ``(1, *spatial)`` on its own grid.
            name: what the files' names begin with.
            folder: where they go.
        """
        ...
