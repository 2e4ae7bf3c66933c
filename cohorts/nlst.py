"""NLST: its screening scans, the boxes published with Sybil, and what came of each scan."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cohorts.collection import Collection
from cohorts.convert_collection import convert_collection
from cohorts.convert_scans import ScanJob, scan_file_name
from cohorts.datalist import Item
from cohorts.dicom_scan import read_dicom_scan
from cohorts.dicom_series import DicomSeries, find_series
from cohorts.nlst_participants import SCREENING_YEARS, NlstParticipants, ScreeningOutcome
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE
from cohorts.slice_lesions import SliceBox, slice_lesions

COLLECTION = Collection(
    name="NLST",
    description="Low-dose screening CT; boxes of cancers as published with Sybil, linked across "
    "slices; risk is any lung cancer found after the scan, times from the participant table",
    license="NLST data under their terms of use; Sybil's boxes MIT",
    program="cohorts.nlst",
)
KEYS = ("x", "y", "width", "height")
# Fractions of the slice's width and height, from its top left corner.
FractionBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class NlstJob(ScanJob):
    """One series to convert; ``boxes`` by SOPInstanceUID, None where nobody looked for any."""

    series: DicomSeries
    boxes: dict[str, list[FractionBox]] | None
    outcome: ScreeningOutcome | None
    problem: str | None


def read_nlst_boxes(path: Path) -> dict[str, dict[str, list[FractionBox]]]:
    """Sybil's boxes: left, top, width and height as fractions, by series and SOPInstanceUID.

    A slice may have an empty list, and keys are in no order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON of that form, or a box that leaves its slice; names the slice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the boxes must exist, got no file")
    try:
        series = json.loads(path.read_text(encoding="utf-8"))
        return {
            series_uid: {
                uid: [_fractions(box, path, uid) for box in boxes] for uid, boxes in slices.items()
            }
            for series_uid, slices in series.items()
        }
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path}: must be {{series: {{slice: [box]}}}} in JSON, got {error}"
        ) from error


def pixel_box(box: FractionBox, columns: int, rows: int) -> SliceBox:
    """Left, top, right and bottom edges in pixels of a box in fractions."""
    x, y, width, height = box
    return x * columns, y * rows, (x + width) * columns, (y + height) * rows


def convert_nlst(job: NlstJob, folder: Path) -> Item:
    """One series as NIfTI and its datalist item."""
    if job.problem is not None:
        raise ValueError(f"{job.series.folder}: {job.problem}")
    scan = read_dicom_scan(job.series.folder)
    columns, rows = scan.hu.shape[:2]
    boxes_of_uid = {
        uid: [pixel_box(box, columns, rows) for box in boxes]
        for uid, boxes in (job.boxes or {}).items()
    }
    boxes_mm, lesions = slice_lesions(boxes_of_uid, scan)
    outcome = job.outcome
    if outcome is not None and boxes_mm and not outcome.risk:
        raise ValueError(
            f"{job.series.folder}: a scan with boxes of a cancer must have a diagnosis in the "
            f"participant table, got none for {job.series.patient_id}"
        )
    image = f"images/{job.name}.nii.gz"
    scan.write(folder / image)
    return {
        "patient_id": job.series.patient_id,
        "source": f"NLST {job.series.series_uid}",
        "series_uid": job.series.series_uid,
        "screening_year": SCREENING_YEARS.get(job.series.study_date),
        "image": image,
        "boxes": boxes_mm,
        "box_labels": [1] * len(boxes_mm),
        "nodules": lesions,
        "risk": 1 if outcome is None else outcome.risk,
        "side": "unknown" if outcome is None else outcome.side,
        "years_to_diagnosis": None if outcome is None else outcome.years_to_diagnosis,
        "censoring_years": None if outcome is None else outcome.censoring_years,
    }


def nlst_jobs(
    series: Sequence[DicomSeries],
    boxes: Mapping[str, dict[str, list[FractionBox]]],
    participants: NlstParticipants | None,
) -> list[NlstJob]:
    """What to convert: axial CT series; without participants, those that have boxes."""
    jobs = []
    for one in series:
        if one.modality != "CT" or one.localizer:
            continue
        drawn = boxes.get(one.series_uid)
        if participants is None and not any((drawn or {}).values()):
            continue
        outcome, problem = None, None
        if participants is not None:
            try:
                outcome = participants.outcome(one.patient_id, _screening_year(one))
            except ValueError as error:
                problem = str(error)
        name = scan_file_name(one.patient_id, one.series_uid)
        jobs.append(NlstJob(name, (one.folder,), one, drawn, outcome, problem))
    return jobs


def _screening_year(series: DicomSeries) -> int:
    if series.study_date not in SCREENING_YEARS:
        raise ValueError(
            f"StudyDate must be one of NLST's three, {', '.join(SCREENING_YEARS)}, "
            f"got {series.study_date!r}"
        )
    return SCREENING_YEARS[series.study_date]


def _fractions(box: Any, path: Path, uid: str) -> FractionBox:
    try:
        x, y, width, height = (float(box[key]) for key in KEYS)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: a box must have {', '.join(KEYS)}, got {box!r} in slice {uid}"
        ) from error
    # A box that ends on the edge may miss 1 by a rounding.
    if not (0 <= x <= x + width <= 1 + 1e-9 and 0 <= y <= y + height <= 1 + 1e-9):
        raise ValueError(f"{path}: a box must lie in its slice, got {box!r} in slice {uid}")
    if width <= 0 or height <= 0:
        raise ValueError(f"{path}: a box must have an area, got {box!r} in slice {uid}")
    return x, y, width, height


def _work(options: argparse.Namespace) -> list[str]:
    boxes = {} if options.boxes is None else read_nlst_boxes(options.boxes)
    participants = None
    if options.participants is not None:
        participants = NlstParticipants(options.participants)
    if not boxes and participants is None:
        raise ValueError("--boxes or --participants must be given, got neither")
    series, unreadable = find_series(options.input)
    jobs = nlst_jobs(series, boxes, participants)
    if not jobs:
        raise ValueError(
            f"{options.input}: must hold at least one CT series of the boxes or the "
            f"participants, got {len(series)} other series"
        )
    absent = len(set(boxes) - {one.series_uid for one in series})
    if absent:
        print(f"{options.boxes}: {absent} of {len(boxes)} series are not in {options.input}")
    return convert_collection(
        COLLECTION,
        jobs,
        convert_nlst,
        options.output,
        workers=options.workers,
        shard=options.shard,
        failures=unreadable,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.nlst",
        description="Convert NLST's DICOM series to NIfTI, with Sybil's boxes as 3D boxes in mm "
        "and the participant table's labels, times and sides, and write the datalist.",
        epilog="An interrupted run goes on with the same command; scans that fail are named and "
        "the others converted. Without --participants only series with boxes are converted, as "
        "cancers of unknown time and side. Patients fall into splits by a hash, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with the DICOM series, at any depth, each in a folder of its own")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the images")  # fmt: skip
    add("--boxes", type=Path, default=None, help="Sybil's annotations JSON")
    add("--participants", type=Path, default=None, help="the participant table (prsn), CSV")
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
