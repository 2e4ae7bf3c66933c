"""A hospital's own table of who has cancer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cohorts.csv_table import TableRow, read_table
from cohorts.datalist import SIDES


@dataclass(frozen=True)
class StudyLabel:
    """Of one study: ``risk`` 1 for cancer, times in years from the scan."""

    risk: int
    side: str
    years_to_diagnosis: float | None = None
    censoring_years: float | None = None


class StudyLabels:
    """A CSV with ``patient_id`` and ``risk``, and what else is known.

    ``study_uid`` tells a patient's studies apart; ``side``, ``years_to_diagnosis`` and
    ``censoring_years`` are the datalist's. Without a side it is ``unknown`` with a cancer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing, or two rows are of one study.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[tuple[str, str], TableRow] = {}
        for row in read_table(path, ("patient_id", "risk")):
            key = row.text("patient_id"), row.values.get("study_uid", "").strip()
            other = self._rows.setdefault(key, row)
            if other is not row:
                raise ValueError(
                    f"{row.place}: a study must have one row, got {' '.join(key).strip()} also "
                    f"in row {other.line}"
                )

    def of(self, patient_id: str, study_uid: str) -> StudyLabel:
        """The label of a study: of its own row, else of its patient's.

        Raises:
            ValueError: neither has a row, or the row breaks a rule.
        """
        row = self._rows.get((patient_id, study_uid)) or self._rows.get((patient_id, ""))
        if row is None:
            raise ValueError(f"{self._path}: a study must have a row, got none for {patient_id}")
        risk = row.text("risk")
        if risk not in ("0", "1"):
            raise ValueError(f"{row.place}: risk must be 0 or 1, got {risk!r}")
        side = row.values.get("side", "").strip() or ("unknown" if risk == "1" else "none")
        if side not in SIDES or (side == "none") != (risk == "0"):
            raise ValueError(
                f"{row.place}: side must be one of {', '.join(SIDES)}, and none where risk is 0 "
                f"alone, got {side!r} with risk {risk}"
            )
        diagnosis, end = (
            row.optional_number(column) for column in ("years_to_diagnosis", "censoring_years")
        )
        return StudyLabel(int(risk), side, diagnosis, end)
