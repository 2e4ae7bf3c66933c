"""CSV tables written whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cohorts.replaced_file import replaced_file


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV table in one step; None gives an empty cell, no ``columns`` no header.

    Raises:
        OSError: the file cannot be written.
    """
    with (
        replaced_file(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        table = csv.writer(stream)
        if columns:
            table.writerow(columns)
        table.writerows(rows)
