"""What an inference found in all of its scans, in one file and one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from handlers.scan_records import ScanRecord
from handlers.scan_report import ScanTable
from handlers.write_json import write_json
from handlers.write_table import write_table

PREDICTIONS = "predictions.json"


def write_predictions(
    folder: Path,
    header: Mapping[str, Any],
    *,
    scans: Iterable[ScanRecord],
    failed: Sequence[Mapping[str, str]],
    table: ScanTable | None,
) -> None:
    """Writes ``predictions.json`` and the table, each in one step.

    Raises:
        OSError: one of them cannot be written.
    """
    scans = list(scans)
    if table is not None:
        rows = [row for scan in scans for row in scan.rows]
        write_table(folder / table.file, table.columns, rows)
    entries = [scan.entry for scan in scans]
    write_json(folder / PREDICTIONS, {**header, "scans": entries, "failed": list(failed)})
