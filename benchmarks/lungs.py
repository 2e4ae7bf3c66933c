"""``python -m benchmarks.lungs``: left and right lung from HU, their time, overlap and sides."""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from benchmarks.real_lesions import DATA, LIDC, LUNG_PET_CT, RealLesion, lidc_lesions, tumour
from benchmarks.report import Row, interleaved_cpu_s, write_report
from benchmarks.scan_segmentation import phantom
from benchmarks.threshold_lungs import threshold_lungs
from cohorts import load_datalist
from cohorts.lesion_side import lesion_side
from transforms import find_lungs, load_mask, load_scan, segment_lungs
from transforms.body_half_mask import body_half_mask
from transforms.separate_lungs import LEFT, RIGHT

SIDES = {"left": LEFT, "right": RIGHT}
CIP = DATA / "cip"
OURS_PER_ROUND = 5
_NOTES = (
    "CPU seconds of one thread, medians, ours and the peer's in turns; the scan is in memory as "
    "float32. Ours is transforms.segment_lungs, on a grid of about 4 mm; 'on the scan's grid' is "
    "transforms.find_lungs, which brings it there.",
    "Peer: benchmarks.threshold_lungs, the usual threshold, border clearing and two largest "
    "regions with scikit-image, on the scan's grid. It closes nothing, keeps the airways and tells "
    "no sides apart.",
    "A target of 0.5 s for 512 x 512 x 200 and of a Dice of 0.95 for each lung was set before it "
    "was measured.",
    "Phantom: made by cohorts.phantom, labelled by its own drawing, vessels and nodules among the "
    "lungs. ct-64 is a CT of a patient with lungs labelled by the Chest Imaging Platform; overlap "
    "is that on the scan's grid.",
    "Wrong sides: the annotated lesions whose lung, from HU, is not on the side of the body's "
    "middle that their centre is on; a lesion whose lung is not clear counts.",
)


class Scan(NamedTuple):
    """A CT in memory, its labels where it has any, and its annotated lesions."""

    name: str
    ct: MetaTensor
    lungs: MetaTensor | None = None
    lesions: Sequence[RealLesion] = ()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lungs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often the peer is measured")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {options.rounds}")
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows += scan_rows(phantom_scan(folder), options.rounds)
        if DATA.is_dir():
            for scan in real_scans(folder):
                rows += scan_rows(scan, options.rounds)
        else:
            print(f"the real scans are not here: {DATA}", file=sys.stderr)
    write_report("lungs", rows, notes=_NOTES)


def phantom_scan(folder: Path) -> Scan:
    """A phantom of 512 x 512 x 200 with its drawn lungs."""
    image, _ = phantom(folder)
    item = load_datalist(folder / "datalist.json", "testing")[0]
    return Scan("phantom", load_scan(image), load_mask(item["lungs"]))


def real_scans(folder: Path) -> list[Scan]:
    """Three scans of patients; the DICOM series is unpacked into ``folder``."""
    with zipfile.ZipFile(LUNG_PET_CT / "A0001_series3_5mm.zip") as archive:
        archive.extractall(folder)
    series = next(folder.rglob("*.dcm")).parent
    return [
        Scan("ct-64", load_scan(CIP / "ct-64.nii.gz"), load_mask(CIP / "ct-64_lung_L1_R2.nii.gz")),
        Scan("LIDC-IDRI-1011", load_scan(LIDC / "LIDC-IDRI-1011.nii.gz"), lesions=lidc_lesions()),
        Scan("Lung-PET-CT-Dx A0001", load_scan(series), lesions=[tumour(folder)]),
    ]


def scan_rows(scan: Scan, rounds: int) -> list[Row]:
    """Time, overlap with the labels and sides of the lesions, as far as the scan has them."""
    shape = "x".join(map(str, scan.ct.shape[1:]))
    what = f"{scan.name}, {shape}"
    coarse, peer_s = interleaved_cpu_s(
        lambda: segment_lungs(scan.ct),
        lambda: threshold_lungs(scan.ct),
        rounds=rounds,
        ours_per_round=OURS_PER_ROUND,
    )
    fine = interleaved_cpu_s(lambda: find_lungs(scan.ct), lambda: None, rounds=rounds)
    rows = [
        Row(f"{what}: CPU time", coarse, peer_s, "s"),
        Row(f"{what}: CPU time, on the scan's grid", fine.ours, peer_s, "s"),
    ]
    if scan.lungs is not None:
        rows += overlap_rows(scan.name, scan.ct, scan.lungs)
    if scan.lesions:
        rows.append(
            Row(
                f"{scan.name}: lesions on the wrong side, of {len(scan.lesions)}",
                wrong_sides(scan.lesions, scan.ct),
                None,
                "",
            )
        )
    return rows


def overlap_rows(name: str, ct: MetaTensor, lungs: MetaTensor) -> list[Row]:
    """Overlap of both lungs with the labels, and of each, which the peer does not tell apart."""
    found, turn = find_lungs(ct), Orientation(axcodes="RAS", labels=None)
    ours, theirs = dice(found > 0, lungs > 0), dice(threshold_lungs(ct) > 0, turn(lungs) > 0)
    rows = [Row(f"{name}, both lungs: 1 - Dice", 1 - ours, 1 - theirs, "")]
    for side, label in SIDES.items():
        overlap = dice(found == label, lungs == label)
        rows.append(Row(f"{name}, {side} lung: 1 - Dice", 1 - overlap, None, ""))
    return rows


def dice(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of two masks of one shape; 1 where both are empty."""
    sizes = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / sizes if sizes else 1.0


def wrong_sides(lesions: Sequence[RealLesion], ct: MetaTensor) -> int:
    """How many lesions lie in another lung than the half of the body that holds their centre."""
    left_half = body_half_mask(ct, "left").as_tensor()[0]
    wrong = 0
    for lesion in lesions:
        centre = torch.tensor([*lesion.centre_ras_mm.tolist(), 1.0], dtype=torch.float64)
        voxel = (torch.linalg.inv(ct.affine.double()) @ centre)[:3].round().long().tolist()
        wanted = "left" if left_half[tuple(voxel)] else "right"
        box = [*lesion.centre_ras_mm.tolist(), *[lesion.diameter_mm] * 3]
        wrong += lesion_side([box], ct) != wanted
    return wrong


if __name__ == "__main__":
    main()
