"""The end of a program in which some scans failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def exit_on_failures(failures: Sequence[Mapping[str, str]], scans: int, report: Path) -> None:
    """Ends the program with one sentence and a non-zero code if any of ``scans`` scans failed.

    Args:
        failures: ``{"scan", "error"}`` of each scan that failed.
        scans: number of all scans, the failed ones included.
        report: file that lists them, named in the sentence.

    Raises:
        SystemExit: there are failures.
    """
    if failures:
        scan, error = failures[0]["scan"], failures[0]["error"]
        first = error if scan in error else f"{scan}: {error}"
        raise SystemExit(
            f"{len(failures)} of {scans} scans failed, the first: {first} ({report} lists all)"
        )
