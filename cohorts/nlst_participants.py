"""What NLST's participant table says of a screening scan: label, times and side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cohorts.csv_table import TableRow, read_table

DAYS_PER_YEAR = 365.25
# TCIA's dates are made up, one for each screening year.
SCREENING_YEARS = {"19990102": 0, "20000102": 1, "20010102": 2}
LEFT = ("loclhil", "loclin", "locllow", "loclmsb", "loclup")
RIGHT = ("locrhil", "locrlow", "locrmid", "locrmsb", "locrup")
# The last is the follow-up's name in the table that the Imaging Data Commons gives out.
FOLLOW_UP = ("fup_days", "canc_free_days")
REQUIRED = ("pid", "scr_days0", "scr_days1", "scr_days2", "candx_days", *LEFT, *RIGHT)


@dataclass(frozen=True)
class ScreeningOutcome:
    """Of one scan: ``risk`` 1 where cancer was ever found after it, times in years from it."""

    risk: int
    side: str
    years_to_diagnosis: float | None
    censoring_years: float


class NlstParticipants:
    """NLST's participant table (``prsn``), one row for each participant.

    Args:
        path: the CSV, with the columns ``pid``, ``scr_days0`` to ``scr_days2``, ``candx_days``,
            ``fup_days`` or ``canc_free_days``, and the tumour's locations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, or a participant has two rows.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = read_table(path, REQUIRED)
        if rows and not any(column in rows[0].values for column in FOLLOW_UP):
            raise ValueError(f"{path}: the table must have {' or '.join(FOLLOW_UP)}, got neither")
        self._rows: dict[str, TableRow] = {}
        for row in rows:
            other = self._rows.setdefault(row.text("pid"), row)
            if other is not row:
                raise ValueError(
                    f"{row.place}: a participant must have one row, got {row.text('pid')} also "
                    f"in row {other.line}"
                )

    def outcome(self, patient_id: str, screening_year: int) -> ScreeningOutcome:
        """What came of the scan of one screening year (0, 1 or 2).

        The years run from the scan, at 365.25 days. A cancer found on the scan's own day counts
        as found a day later, since times are above 0. The side is that of the tumour's locations;
        ``unknown`` where they name neither lung.

        Raises:
            ValueError: an unknown participant, no such scan, or one after the diagnosis or the
                end of the follow-up; names the row.
        """
        row = self._rows.get(patient_id)
        if row is None:
            raise ValueError(
                f"{self._path}: a scan's participant must have a row, got no {patient_id}"
            )
        column = f"scr_days{screening_year}"
        scan = row.number(column)
        followed = [row.optional_number(name) for name in FOLLOW_UP]
        end = next((days for days in followed if days is not None), None)
        diagnosis = row.optional_number("candx_days")
        if diagnosis is not None:
            if diagnosis < scan:
                raise ValueError(
                    f"{row.place}: a scan must not be after the diagnosis, got {column} "
                    f"{scan:g} and candx_days {diagnosis:g}"
                )
            days = max(diagnosis - scan, 1.0)
            last = days if end is None else max(days, end - scan)
            years = days / DAYS_PER_YEAR, last / DAYS_PER_YEAR
            return ScreeningOutcome(1, _side(row), *years)
        if end is None or end <= scan:
            raise ValueError(
                f"{row.place}: the follow-up must end after the scan, got {column} {scan:g} and "
                f"an end at {'no day' if end is None else f'{end:g}'}"
            )
        return ScreeningOutcome(0, "none", None, (end - scan) / DAYS_PER_YEAR)


def _side(row: TableRow) -> str:
    left, right = (
        any((row.optional_number(column) or 0) > 0 for column in columns)
        for columns in (LEFT, RIGHT)
    )
    if left and right:
        return "both"
    return "left" if left else "right" if right else "unknown"
