"""The tables of LUNA16: series, findings with a diameter, marks with a score."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_COORDINATES = ("coordX", "coordY", "coordZ")


class ScanPoints(NamedTuple):
    """Points in the scans of a cohort: findings, or a detector's marks.

    Attributes:
        scan: ``(N,)`` which scan, from 0.
        centre_mm: ``(N, 3)`` in any one world frame; LUNA16's is LPS.
        value: ``(N,)`` a finding's diameter in mm, or a mark's score.
    """

    scan: IntArray
    centre_mm: FloatArray
    value: FloatArray


def read_series(path: str | Path) -> list[str]:
    """Series of a table with one a row; a header ``seriesuid`` is left out.

    Raises:
        ValueError: no series, or one twice.
        OSError: no such file.
    """
    seen: dict[str, int] = {}
    for place, (number, row) in enumerate(_rows(path)):
        if place == 0 and row[0] == "seriesuid":
            continue
        if row[0] in seen:
            raise ValueError(
                f"{path} must list each series once, got {row[0]} in rows {seen[row[0]]} "
                f"and {number}"
            )
        seen[row[0]] = number
    if not seen:
        raise ValueError(f"{path} must list at least one series, got none")
    return list(seen)


def read_findings(path: str | Path, series: Sequence[str]) -> ScanPoints:
    """Findings (``seriesuid,coordX,coordY,coordZ,diameter_mm``) of these series; others are left
    out, as by the official evaluation, so that the whole table serves a subset of the series.

    Raises:
        ValueError: a missing column, or a value that is no number.
        OSError: no such file.
    """
    return _read_points(path, series, "diameter_mm", others_allowed=True)


def read_marks(path: str | Path, series: Sequence[str]) -> ScanPoints:
    """Marks of a submission (``seriesuid,coordX,coordY,coordZ,probability``); there may be none.

    Raises:
        ValueError: a missing column, a value that is no number, or a series not in ``series``.
        OSError: no such file.
    """
    return _read_points(path, series, "probability", others_allowed=False)


def _rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and cells of each row that is not blank."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if any(row):
                    yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} must be a CSV table in UTF-8: {error}") from error


def _read_points(
    path: str | Path, series: Sequence[str], value_column: str, *, others_allowed: bool
) -> ScanPoints:
    names = ("seriesuid", *_COORDINATES, value_column)
    rows = _rows(path)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if missing := [name for name in names if name not in header]:
        raise ValueError(
            f"{path} must have the columns {', '.join(names)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing from {', '.join(header) or 'row 1'}"
        )
    wanted = itemgetter(*(header.index(name) for name in names))
    # No container is kept of a row: garbage collection would go through all of them over and over.
    numbers: list[int] = []
    texts: list[str] = []
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path} must have {len(header)} values in each row, got {len(row)} in row {number}"
            )
        numbers.append(number)
        texts += wanted(row)
    index = {uid: scan for scan, uid in enumerate(series)}
    scan = np.array([index.get(uid, -1) for uid in texts[:: len(names)]], dtype=np.intp)
    if not others_allowed and (scan < 0).any():
        place = int((scan < 0).argmax())
        raise ValueError(
            f"{path} must only name series of the list, got {texts[place * len(names)]!r} "
            f"in row {numbers[place]}"
        )
    columns = [
        _numbers(path, name, texts[column :: len(names)], numbers)
        for column, name in enumerate(names[1:], start=1)
    ]
    known = scan >= 0
    values = np.stack(columns, axis=1)[known]
    return ScanPoints(scan[known], values[:, :3], values[:, 3])


def _numbers(
    path: str | Path, name: str, texts: Sequence[str], numbers: Sequence[int]
) -> FloatArray:
    """The values of a column, of which the texts are in these rows."""
    try:
        values = np.array([float(text) for text in texts], dtype=np.float64)
    except ValueError:
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        number, text = next(
            (number, text)
            for number, text in zip(numbers, texts, strict=True)
            if not _is_finite(text)
        )
        raise ValueError(f"{path} must have a number as {name}, got {text!r} in row {number}")
    return values


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
