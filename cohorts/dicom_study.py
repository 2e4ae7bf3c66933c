"""Any folder of DICOM studies: the best axial CT series of each as a datalist."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cohorts.collection import Collection
from cohorts.convert_collection import convert_collection
from cohorts.convert_scans import ScanJob, scan_file_name
from cohorts.datalist import Item
from cohorts.dicom_scan import DicomScan, read_dicom_scan
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE
from cohorts.study_labels import StudyLabel, StudyLabels
from cohorts.study_series import StudySeries, choose_series, read_studies
from transforms.read_dicom import dicom_files

COLLECTION = Collection(
    name="DICOM studies",
    description="The axial CT series with the thinnest slices of each study",
    license="as the studies themselves",
    program="cohorts.dicom_study",
)


@dataclass(frozen=True)
class StudyJob(ScanJob):
    """The series chosen from one study, and its label where a table gives one."""

    series: StudySeries
    label: StudyLabel | None
    problem: str | None


def convert_study(job: StudyJob, folder: Path) -> Item:
    """One series as NIfTI and its datalist item."""
    if job.problem is not None:
        raise ValueError(f"{job.series.folder}: {job.problem}")
    if not job.series.patient_id:
        raise ValueError(f"{job.series.folder}: PatientID must be given, got none")
    scan = read_series(job.series)
    image = f"images/{job.name}.nii.gz"
    scan.write(folder / image)
    label = job.label or StudyLabel(risk=0, side="none")
    return {
        "patient_id": job.series.patient_id.replace("/", "_").replace("\\", "_"),
        "source": f"{job.series.folder.name} {job.series.series_uid}",
        "series_uid": job.series.series_uid,
        "study_uid": job.series.study_uid,
        "gantry_tilt_degrees": round(gantry_tilt_degrees(scan), 2),
        "image": image,
        "boxes": [],
        "box_labels": [],
        "risk": label.risk,
        "side": label.side,
        "years_to_diagnosis": label.years_to_diagnosis,
        "censoring_years": label.censoring_years,
    }


def read_series(series: StudySeries) -> DicomScan:
    """A series whose files may lie among those of others, or in several folders.

    Raises as :func:`cohorts.dicom_scan.read_dicom_scan`.
    """
    if list(series.files) == dicom_files(series.folder):
        return read_dicom_scan(series.folder)
    with tempfile.TemporaryDirectory() as name:
        alone = Path(name)
        for number, file in enumerate(series.files):
            (alone / f"{number:05}-{file.name}").symlink_to(file.resolve())
        try:
            return replace(read_dicom_scan(alone), folder=series.folder)
        except ValueError as error:
            # Names of the files stay in the sentence; the folder made for them does not.
            raise ValueError(str(error).replace(name, str(series.folder))) from error


def gantry_tilt_degrees(scan: DicomScan) -> float:
    """Angle between the slices' normal and the way from slice to slice."""
    along_row, down_column, step = scan.affine[:3, :3].T
    normal = np.cross(along_row, down_column)
    cosine = abs(normal @ step) / (np.linalg.norm(normal) * np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def study_jobs(
    series: Sequence[StudySeries], labels: StudyLabels | None
) -> tuple[list[StudyJob], list[str]]:
    """One series of each study to convert, and why the others are left out."""
    studies: dict[str, list[StudySeries]] = {}
    for one in series:
        studies.setdefault(one.study_uid, []).append(one)
    jobs, left_out = [], []
    for study in studies.values():
        chosen, reasons = choose_series(study)
        left_out += reasons
        if chosen is None:
            continue
        label, problem = None, None
        if labels is not None:
            try:
                label = labels.of(chosen.patient_id, chosen.study_uid)
            except ValueError as error:
                problem = str(error)
        name = scan_file_name(chosen.patient_id, chosen.series_uid)
        jobs.append(StudyJob(name, chosen.files, chosen, label, problem))
    return jobs, left_out


def _work(options: argparse.Namespace) -> list[str]:
    labels = None if options.labels is None else StudyLabels(options.labels)
    series, unreadable = read_studies(options.input)
    jobs, left_out = study_jobs(series, labels)
    return convert_collection(
        replace(COLLECTION, knows_cancer=labels is not None),
        jobs,
        convert_study,
        options.output,
        workers=options.workers,
        shard=options.shard,
        failures=unreadable,
        left_out=left_out,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all studies are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.dicom_study",
        description="Convert the axial CT series with the thinnest slices of each DICOM study to "
        "NIfTI, and write the datalist. Series are told apart by their UIDs, in whatever folders "
        "they lie; slices are sorted by their positions.",
        epilog="An interrupted run goes on with the same command; studies that fail (a slice that "
        "is missing or there twice, say) are named and the others converted. The other series of "
        "a study are listed. Patients fall into splits by a hash, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with DICOM files, at any depth")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the images")  # fmt: skip
    add("--labels", type=Path, default=None,
        help="CSV with patient_id and risk (1 = cancer), and if known study_uid, side, "
        "years_to_diagnosis, censoring_years; left out, no cancer is known")  # fmt: skip
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
