"""Lung-PET-CT-Dx: CT series with a boxed lung cancer."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cohorts.collection import Collection
from cohorts.convert_collection import convert_collection
from cohorts.convert_scans import (
    LeftOut,
    ScanJob,
    scan_file_name,
)
from cohorts.datalist import Item
from cohorts.dicom_scan import read_dicom_scan
from cohorts.dicom_series import DicomSeries, find_series
from cohorts.lesion_side import lesion_side
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE
from cohorts.slice_lesions import SliceBox, slice_lesions
from cohorts.voc_boxes import read_voc_boxes
from transforms.load_scan import as_metatensor

COLLECTION = Collection(
    name="Lung-PET-CT-Dx",
    description="CT of patients with lung cancer, the tumour boxed slice by slice, linked across "
    "slices; the side is that of the lung around the tumour in HU",
    license="CC BY 4.0",
    program="cohorts.lung_pet_ct_dx",
)
# The first letter of a patient's code.
HISTOLOGY = {
    "A": "adenocarcinoma",
    "B": "small cell carcinoma",
    "E": "large cell carcinoma",
    "G": "squamous cell carcinoma",
}
CODE = re.compile(r"[A-Z]\d{4}$")


@dataclass(frozen=True)
class LungPetCtJob(ScanJob):
    """One CT series and the folder of its patient's XML files."""

    series: DicomSeries
    annotations: Path


def convert_lung_pet_ct(job: LungPetCtJob, folder: Path) -> Item:
    """One series as NIfTI and its datalist item.

    A series without an annotated slice is left out: a patient's tumour is boxed in some of their
    series, and the XML files of all of them lie together.
    """
    scan = read_dicom_scan(job.series.folder)
    columns, rows = scan.hu.shape[:2]
    boxes_of_uid: dict[str, list[SliceBox]] = {}
    for uid in scan.slice_of_uid:
        path = job.annotations / f"{uid}.xml"
        if path.is_file():
            boxes = read_voc_boxes(path, columns=columns, rows=rows)
            boxes_of_uid[uid] = [box for _, box in boxes]
    boxes_mm, lesions = slice_lesions(boxes_of_uid, scan)
    if not boxes_mm:
        raise LeftOut(f"{job.series.folder}: no XML of {job.annotations.name} boxes its slices")
    image = f"images/{job.name}.nii.gz"
    ct = as_metatensor(scan.hu.astype("float32"), scan.affine, job.series.folder)
    side = lesion_side(boxes_mm, ct)
    scan.write(folder / image)
    return {
        "patient_id": job.series.patient_id,
        "source": f"Lung-PET-CT-Dx {job.series.series_uid}",
        "series_uid": job.series.series_uid,
        "histology": HISTOLOGY.get(_code(job.series.patient_id)[:1], "unknown"),
        "image": image,
        "boxes": boxes_mm,
        "box_labels": [1] * len(boxes_mm),
        "nodules": lesions,
        "risk": 1,
        "side": side,
    }


def lung_pet_ct_jobs(
    series: Sequence[DicomSeries], annotations: Path
) -> tuple[list[LungPetCtJob], list[str]]:
    """What to convert, and why the other series are left out.

    Args:
        series: found on the disk.
        annotations: folder with a folder of XML files for each patient, named by their code.

    Raises:
        ValueError: two folders of XML files have one patient's code, or none has any.
    """
    folder_of: dict[str, Path] = {}
    for path in sorted({file.parent for file in annotations.rglob("*.xml")}):
        code = _code(path.name)
        if code and folder_of.setdefault(code, path) != path:
            raise ValueError(
                f"{path}: a patient must have one folder of XML files, got also {folder_of[code]}"
            )
    if not folder_of:
        raise ValueError(
            f"{annotations}: must hold folders of XML files named like A0001, got none"
        )
    jobs, left_out = [], []
    for one in series:
        code = _code(one.patient_id)
        if one.modality != "CT" or one.localizer:
            left_out.append(f"{one.folder}: no axial CT series, but {one.modality}")
        elif code not in folder_of:
            left_out.append(f"{one.folder}: no XML files of its patient {one.patient_id}")
        else:
            name = scan_file_name(one.patient_id, one.series_uid)
            xml = folder_of[code]
            jobs.append(LungPetCtJob(name, (one.folder, xml), one, xml))
    return jobs, left_out


def _code(name: str) -> str:
    """``A0001`` of ``Lung_Dx-A0001``, empty where there is none."""
    found = CODE.search(name)
    return found[0] if found else ""


def _work(options: argparse.Namespace) -> list[str]:
    series, unreadable = find_series(options.input)
    jobs, left_out = lung_pet_ct_jobs(series, options.annotations)
    return convert_collection(
        COLLECTION,
        jobs,
        convert_lung_pet_ct,
        options.output,
        workers=options.workers,
        shard=options.shard,
        failures=unreadable,
        left_out=left_out,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.lung_pet_ct_dx",
        description="Convert Lung-PET-CT-Dx's boxed CT series to NIfTI, with the boxes of all "
        "slices as 3D boxes in mm, and write the datalist.",
        epilog="An interrupted run goes on with the same command; scans that fail are named and "
        "the others converted. Series without a box, PET among them, are listed and left out. "
        "Patients fall into splits by a hash, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with the DICOM series, at any depth, each in a folder of its own")  # fmt: skip
    add("--annotations", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with the XML files, a folder for each patient (A0001, ...)")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the images")  # fmt: skip
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
