"""``python -m benchmarks.real_scans``: where the last training looks in two scans of patients."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom

from benchmarks.report import Row, write_report
from bundles.__main__ import main as run_command

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIDC = DATA / "lidc1011"
LUNG_PET_CT = DATA / "lung-pet-ct-dx"
BUNDLE = "lung_ct_cancer_risk"
NOTES = (
    "Two scans, one training on phantoms alone: an observation, no measure of performance.",
    "LIDC-IDRI-1011 has three nodules marked by four readers and one by a single reader; "
    "Lung-PET-CT-Dx A0001 has one tumour, boxed slice by slice, 5 mm apart.",
    "Distances are from the attention's peak to the nearest centre of a nodule, or of the "
    "tumour's box in one slice.",
)


def main() -> int:
    if not LIDC.is_dir() or not LUNG_PET_CT.is_dir():
        print(f"error: the real scans must lie in {DATA}, got none there", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(LUNG_PET_CT / "A0001_series3_5mm.zip") as archive:
            archive.extractall(folder / "A0001")
        scan = LIDC / "LIDC-IDRI-1011.nii.gz"
        output = ["--output", str(folder / "results")]
        run_command(["predict", BUNDLE, "--scans", str(scan), str(folder / "A0001"), *output])
        report = json.loads((folder / "results" / "predictions.json").read_text())
        centres_mm = [_lidc_centres_mm(), _tumour_centres_mm(folder / "A0001")]
    rows = []
    for title, result, lesions_mm in zip(
        ("LIDC-IDRI-1011", "Lung-PET-CT-Dx A0001"), report["scans"], centres_mm, strict=True
    ):
        away_mm = np.linalg.norm(lesions_mm - result["peak_ras_mm"], axis=1).min()
        rows.append(Row(f"{title}: peak to the nearest lesion", float(away_mm), None, "mm"))
    write_report("real_scans", rows, notes=NOTES)
    return 0


def _lidc_centres_mm() -> np.ndarray:
    nodules = json.loads((LIDC / "LIDC-IDRI-1011_nodules.json").read_text())
    return np.array([nodule["centre_LPS_mm"] for nodule in nodules]) * [-1, -1, 1]


def _tumour_centres_mm(series: Path) -> np.ndarray:
    """Centres in RAS mm of the boxes of those slices that are in the series."""
    centres_mm = []
    for path in series.rglob("*.dcm"):
        slice_ = pydicom.dcmread(path, stop_before_pixels=True)
        annotation = LUNG_PET_CT / "annotation-A0001" / f"{slice_.SOPInstanceUID}.xml"
        if not annotation.is_file():
            continue
        box = ElementTree.parse(annotation).find(".//bndbox")
        assert box is not None
        low, high = (
            np.array([float(box.findtext(f"{axis}{end}", "nan")) for axis in "xy"])
            for end in ("min", "max")
        )
        row_mm, column_mm = slice_.PixelSpacing
        x_mm, y_mm, z_mm = slice_.ImagePositionPatient
        centre_mm = (low + high) / 2 * [column_mm, row_mm]
        centres_mm.append([-(x_mm + centre_mm[0]), -(y_mm + centre_mm[1]), z_mm])
    return np.array(centres_mm, float)


if __name__ == "__main__":
    sys.exit(main())
