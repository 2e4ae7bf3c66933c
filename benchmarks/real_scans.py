"""``python -m benchmarks.real_scans``: what the last trainings say of two scans of patients."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_lesions import (
    DATA,
    LIDC,
    LUNG_PET_CT,
    RealLesion,
    lidc_lesions,
    tumour,
)
from benchmarks.report import Row, write_report
from bundles.__main__ import main as run_command

ATTENTION, BOXES = "lung_ct_cancer_risk", "lung_ct_nodule_detection"
NOTES = (
    "Two scans, trainings on phantoms alone: an observation, no measure of performance.",
    "LIDC-IDRI-1011 has three nodules marked by four readers and one by a single reader; "
    "Lung-PET-CT-Dx A0001 has one tumour, boxed slice by slice, 5 mm apart.",
    "Attention: from its peak to the nearest centre of a nodule, or of the tumour's box in one "
    "slice.",
    "Boxes: a lesion is found by a box whose centre is nearer to its centre than half its "
    "diameter. False marks before it are the boxes on no lesion with a score as high as that of "
    "the best box that finds it; -1 where none does.",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_scans", description=__doc__)
    parser.add_argument("--attention", type=Path, help=f"a run of {ATTENTION}; else the last")
    parser.add_argument("--boxes", type=Path, help=f"a run of {BOXES}; else the last")
    runs = parser.parse_args()
    if not LIDC.is_dir() or not LUNG_PET_CT.is_dir():
        print(f"error: the real scans must lie in {DATA}, got none there", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(LUNG_PET_CT / "A0001_series3_5mm.zip") as archive:
            archive.extractall(folder / "A0001")
        scans = [LIDC / "LIDC-IDRI-1011.nii.gz", folder / "A0001"]
        lesions = {
            "LIDC-IDRI-1011": lidc_lesions(),
            "Lung-PET-CT-Dx A0001": [tumour(folder / "A0001")],
        }
        attention = _predicted(ATTENTION, runs.attention, scans, folder / "attention")
        # All boxes, so that a lesion with a low score has a place among the false marks too.
        every = ["--set", "min_score=0.001", "--set", "min_finding_score=0"]
        boxes = _predicted(BOXES, runs.boxes, scans, folder / "boxes", *every)
    rows = []
    for (title, own), looked, found in zip(lesions.items(), attention, boxes, strict=True):
        centres_mm = np.concatenate([lesion.slice_centres_ras_mm for lesion in own])
        away_mm = np.linalg.norm(centres_mm - looked["peak_ras_mm"], axis=1).min()
        rows.append(Row(f"{title}, attention: peak to a lesion", float(away_mm), None, "mm"))
        for lesion in own:
            if lesion.is_counted:
                what = f"{title}, boxes: false marks before {lesion.name}"
                rows.append(Row(what, false_marks(lesion, own, found["findings"]), None, ""))
    write_report("real_scans", rows, notes=NOTES)
    return 0


def false_marks(
    lesion: RealLesion, lesions: Sequence[RealLesion], findings: Sequence[Mapping[str, Any]]
) -> int:
    """How many boxes on none of ``lesions`` score as high as the best on ``lesion``; -1 if none."""
    centres_mm = np.array([finding["centre_ras_mm"] for finding in findings]).reshape(-1, 3)
    scores = np.array([finding["score"] for finding in findings])
    hits = {
        one.name: np.linalg.norm(centres_mm - one.centre_ras_mm, axis=1) < one.diameter_mm / 2
        for one in lesions
    }
    if not hits[lesion.name].any():
        return -1
    is_false = ~np.any(list(hits.values()), axis=0)
    return int((is_false & (scores >= scores[hits[lesion.name]].max())).sum())


def _predicted(
    bundle: str, run: Path | None, scans: Sequence[Path], output: Path, *options: str
) -> list[dict[str, Any]]:
    command = ["predict", bundle, "--scans", *map(str, scans), "--output", str(output), *options]
    run_command([*command, *([] if run is None else ["--run", str(run)])])
    return json.loads((output / "predictions.json").read_text())["scans"]


if __name__ == "__main__":
    sys.exit(main())
