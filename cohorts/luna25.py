"""LUNA25: NLST scans with nodules labelled benign or malignant, as a datalist."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cohorts.collection import Collection, datalist_path, split_by_patient, split_counts
from cohorts.csv_table import TableRow, read_table
from cohorts.datalist import Item, write_datalist
from cohorts.nodule_rows import NoduleRow, check_centres, images_by_name, list_missing, nodule_row
from cohorts.run_command import run_command
from cohorts.scan_grid import scan_grid

TABLE = "LUNA25_Public_Training_Development_Data.csv"
CENTRE = ("CoordX", "CoordY", "CoordZ")
# What an item takes over from each nodule's row.
NAMES = ("LesionID", "AnnotationID", "NoduleID")
COLLECTION = Collection(
    name="LUNA25",
    description="Screening CT of NLST with nodules labelled benign or malignant; the table has "
    "centres alone, so each box is a cube of one nominal size; risk is a malignant nodule in "
    "the scan",
    license="CC BY 4.0",
    program="cohorts.luna25",
)


class Luna25:
    """LUNA25's table and images as they lie on the disk, and what is wrong with each scan.

    Args:
        folder: holds the images, ``SERIES.mha``, at any depth.
        table: the nodules.
        box_mm: side of each nodule's cube.

    Attributes:
        rows: the table's rows of each series.
        nodules: its nodules.
        images: file of each series that is there.
        failures: a sentence for each series whose image or rows are wrong.

    Raises:
        FileNotFoundError: the folder or the table is missing.
        ValueError: the table breaks its form, or ``box_mm`` is not above 0.
    """

    def __init__(self, folder: Path, table: Path, *, box_mm: float) -> None:
        if not box_mm > 0:
            raise ValueError(f"box_mm must be above 0, got {box_mm}")
        self._folder = folder
        self.failures: dict[str, str] = {}
        self.rows: dict[str, list[TableRow]] = {}
        self.nodules: dict[str, list[NoduleRow]] = {}
        self._read_table(table, box_mm)
        found = images_by_name(folder)
        self.images = {series: found[series] for series in self.rows if series in found}
        for series, image in tqdm(self.images.items(), desc="scans", unit="scan"):
            try:
                check_centres(self.nodules.get(series, []), scan_grid(image))
            except ValueError as error:
                self.failures.setdefault(series, str(error))

    @property
    def missing(self) -> list[str]:
        """Series of the table that have no image here."""
        return sorted(set(self.rows) - set(self.images))

    def items(self, folder: Path, *, missing: bool) -> list[Item]:
        """A datalist's items in the table's order.

        Args:
            folder: of the datalist.
            missing: also those whose image is not here.
        """
        items = []
        for series, nodules in self.nodules.items():
            if series in self.failures or not (series in self.images or missing):
                continue
            first = self.rows[series][0]
            labels = [int(nodule.record["malignant"]) for nodule in nodules]
            image = self.images.get(series, self._folder / f"{series}.mha")
            items.append(
                {
                    "patient_id": first.text("PatientID"),
                    "source": f"LUNA25 {series}",
                    "series_uid": series,
                    "study_date": first.text("StudyDate"),
                    "image": datalist_path(image, folder),
                    "boxes": [list(nodule.box_mm) for nodule in nodules],
                    "box_labels": labels,
                    "nodules": [nodule.record for nodule in nodules],
                    "risk": int(any(labels)),
                    "side": "unknown" if any(labels) else "none",
                }
            )
        return items

    def _read_table(self, path: Path, box_mm: float) -> None:
        seen: dict[str, str] = {}
        columns = ("PatientID", "SeriesInstanceUID", "StudyDate", *CENTRE, *NAMES, "label")
        for row in read_table(path, columns):
            series = row.text("SeriesInstanceUID")
            rows = self.rows.setdefault(series, [])
            rows.append(row)
            try:
                name = row.text("AnnotationID")
                if seen.setdefault(name, row.place) != row.place:
                    raise ValueError(
                        f"{row.place}: AnnotationID must be there once, got {name} also in "
                        f"{seen[name]}"
                    )
                if row.text("PatientID") != rows[0].text("PatientID"):
                    raise ValueError(
                        f"{row.place}: a series must be of one patient, got "
                        f"{row.text('PatientID')} and {rows[0].text('PatientID')}"
                    )
                label = row.text("label")
                if label not in ("0", "1"):
                    raise ValueError(f"{row.place}: label must be 0 or 1, got {label!r}")
                record = {column: row.text(column) for column in NAMES}
                nodules = self.nodules.setdefault(series, [])
                instance = {"instance": len(nodules) + 1, "malignant": label == "1"}
                nodules.append(nodule_row(row, CENTRE, box_mm, {**instance, **record}))
            except ValueError as error:
                self.failures.setdefault(series, str(error))


def _work(options: argparse.Namespace) -> list[str]:
    table = options.table or options.input / TABLE
    luna25 = Luna25(options.input, table, box_mm=options.box_mm)
    items = luna25.items(options.output, missing=options.allow_missing)
    failures = list(luna25.failures.values())
    missing = [] if options.allow_missing else luna25.missing
    failures += list_missing(missing, options.input, options.output)
    if items:
        path = options.output / "datalist.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = {"box_mm": options.box_mm}
        datalist = COLLECTION.datalist(split_by_patient(items), settings)
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are listed, 1 where some are not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.luna25",
        description="Write LUNA25's nodules as a datalist; the images stay where they are.",
        epilog="The table has no sizes: every box is a cube of --box-mm around a nodule's "
        "centre, as the datalist says. Scans that are wrong or not here are named, and the "
        "datalist lists the others. Patients fall into splits by a hash, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with the images, SERIES.mha, at any depth")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json")  # fmt: skip
    add("--table", type=Path, default=None,
        help=f"the nodules; left out, {TABLE} of the input")  # fmt: skip
    add("--box-mm", type=float, default=10.0, help="side of every box")
    add("--allow-missing", action="store_true",
        help="also list scans whose image is not there, as INPUT/SERIES.mha")  # fmt: skip
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
