"""Tables from CSV files, whose errors name the file and the row."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TableRow:
    """One row of a CSV file; ``line`` is its line in the file, the header's being 1."""

    path: Path
    line: int
    values: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.path}, row {self.line}"

    def text(self, column: str) -> str:
        """A cell that must not be empty."""
        text = self.values[column].strip()
        if not text:
            raise ValueError(f"{self.place}: {column} must be given, got an empty cell")
        return text

    def number(self, column: str) -> float:
        """A cell that must hold a finite number."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{self.place}: {column} must be a finite number, got {text!r}")
        return value

    def optional_number(self, column: str) -> float | None:
        """A finite number, or None for an empty cell or a column that the table lacks."""
        return self.number(column) if self.values.get(column, "").strip() else None


def read_table(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """The rows of a CSV file with a header.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        columns: those that it must have; others may be there too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a CSV text, a column is missing or named twice, or a row is cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the table must exist, got no file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: the table must be CSV in UTF-8, got {error}") from error
    for column in columns:
        if header.count(column) != 1:
            raise ValueError(
                f"{path}: the table must have one column {column}, got {', '.join(header)}"
            )
    rows = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"{path}, row {line}: must have {len(header)} cells, got {len(cells)}")
        rows.append(TableRow(path, line, dict(zip(header, cells, strict=True))))
    return rows
