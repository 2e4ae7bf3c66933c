"""An evaluation as the tables of LUNA16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handlers.detected_scan import DetectedScan
from handlers.judged_nodule import JudgedNodule
from handlers.write_table import write_table

_PLACE = ("seriesuid", "coordX", "coordY", "coordZ")
MARK_COLUMNS = (*_PLACE, "probability")
FINDING_COLUMNS = (*_PLACE, "diameter_mm")


def write_luna16_tables(
    folder: Path, scans: Sequence[DetectedScan], nodules: Sequence[JudgedNodule]
) -> None:
    """Writes ``marks.csv``, ``annotations.csv``, ``excluded.csv`` and ``seriesuids.csv``.

    ``python -m metrics.froc`` makes of them the CPM that :class:`metrics.Froc` has, as long as the
    axes of each scan are at right angles. Coordinates are LPS mm with all their digits, in 2D with
    ``coordZ`` 0. ``excluded.csv`` has its header only, ``seriesuids.csv``, as that of LUNA16, none.
    A nodule that a crop lost stands at its place, or at 0 where that is not known, with a diameter
    of 0, which no mark hits: it counts as missed.

    Raises:
        OSError: a file cannot be written.
    """
    series = series_names([scan.patient_id for scan in scans])
    marks = (
        (name, *centre, score)
        for name, scan in zip(series, scans, strict=True)
        for centre, score in zip(
            scan.marks_lps_mm.tolist(), scan.marked.scores.tolist(), strict=True
        )
    )
    findings = (
        (
            series[nodule.scan],
            *(nodule.centre_lps_mm or (0.0, 0.0, 0.0)),
            0.0 if nodule.is_lost else nodule.diameter_mm,
        )
        for nodule in nodules
    )
    write_table(folder / "marks.csv", MARK_COLUMNS, marks)
    write_table(folder / "annotations.csv", FINDING_COLUMNS, findings)
    write_table(folder / "excluded.csv", FINDING_COLUMNS, [])
    write_table(folder / "seriesuids.csv", (), ((name,) for name in series))


def series_names(patient_ids: Sequence[str]) -> list[str]:
    """A name for each scan: its patient's, with _2, _3 ... for a patient's further scans."""
    names: list[str] = []
    taken = set(patient_ids)
    for index, patient in enumerate(patient_ids):
        name, number = patient, 1
        if patient in patient_ids[:index]:
            while name in taken:
                number += 1
                name = f"{patient}_{number}"
        taken.add(name)
        names.append(name)
    return names
