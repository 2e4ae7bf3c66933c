"""``python -m benchmarks.detector_accuracy``: our detector against MONAI's, on phantoms.

Makes a cohort, trains both on the same patches for the same time, and compares their FROC on the
cohort's testing scans, overall and for nodules under 6 mm. Submissions and findings are kept in
LUNA16's tables, for ``python -m metrics.froc``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detector_marks import SUBMISSION, submit_ours, submit_peer
from benchmarks.detector_training import (
    BUNDLE,
    PEER_BATCH_SIZE,
    Setup,
    fill_cache,
    train_ours,
    train_peer,
)
from benchmarks.fresh_process import in_fresh_process
from benchmarks.report import RESULTS, provenance
from benchmarks.retina_detector import TILE_OVERLAP
from benchmarks.training_clock import TrainingTime
from bundles.run_folders import runs_folder
from cohorts import CohortSettings, ScannerSettings, load_datalist, make_cohort
from cohorts.datalist import read_datalist
from handlers.luna16_tables import FINDING_COLUMNS
from handlers.write_json import write_json
from handlers.write_table import write_table
from metrics import (
    MatchedMarks,
    froc_difference,
    froc_intervals,
    froc_sensitivities,
    match_marks,
    read_findings,
    read_marks,
    read_series,
    size_class,
)
from transforms import boxes_ras_lps

NAME = "detector_accuracy"
COHORT = CohortSettings(
    training=120,
    validation=16,
    testing=48,
    seed=4,
    min_diameter_mm=4.0,
    mass_fraction=0.2,
    vary_scanner=True,
    scanner=ScannerSettings(spacing_mm=(1.5, 1.5, 2.5)),
)
OVERLAYS = ("two_cores", "disk_cache")  # from where both sides read the scans
SMALL = "under_6_mm"
GROUPS = ("all", SMALL)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="training of each")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the trainings and submissions that an interrupted run has completed; only "
        "settings are compared, not code",
    )
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error(f"--minutes must be above 0, got {options.minutes:g}")
    datalist = make_cohort(COHORT, runs_folder().parent / "data" / "phantom-detector", workers=2)
    output = runs_folder() / BUNDLE / NAME
    if not options.resume:
        shutil.rmtree(output, ignore_errors=True)
    record = compare_detectors(Setup(datalist, OVERLAYS), output, 60 * options.minutes)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{NAME}.json", record)
    print_record(record)


def compare_detectors(setup: Setup, output: Path, seconds: float) -> dict[str, Any]:
    """Train, apply and compare both; each step in a process of its own, one after the other.

    Steps that ``output`` has with the same settings are not repeated.
    """
    write_findings(setup.datalist, output)
    config = setup.config(output, {})
    cohort = read_datalist(setup.datalist).get("generator")
    settings = {"cohort": cohort, "config": config.get(), "seconds": seconds}

    def once(step: str, call: Callable[..., Any], *arguments: object) -> Any:
        path = output / f"{step}.json"
        done = json.loads(path.read_text()) if path.exists() else {}
        if done.get("settings") != settings:
            done = {"settings": settings, "result": in_fresh_process(call, setup, *arguments)}
            write_json(path, done)
        return done["result"]

    in_fresh_process(fill_cache, setup)
    ours, peer = output / "ours", output / "peer"
    ours_time = TrainingTime(*once("train_ours", train_ours, ours, seconds))
    # What the bundle's whole number of patches takes beyond the time is given to the peer too.
    peer_s = max(seconds, ours_time.seconds)
    peer_time = TrainingTime(*once("train_peer", train_peer, peer, peer_s))
    ours_scan_s = once("submit_ours", submit_ours, ours)
    peer_scan_s = once("submit_peer", submit_peer, peer)
    return {
        **provenance(NAME),
        "notes": notes(config["patch_shape"], config["tile_shape"]),
        "cohort": cohort,
        "settings": {
            name: config[name] for name in ("spacing_mm", "patch_shape", "tile_shape", "seed")
        },
        "training": {
            "ours": {**ours_time._asdict(), "patches_per_step": config["batch_size"]},
            "peer": {**peer_time._asdict(), "patches_per_step": PEER_BATCH_SIZE},
        },
        "median_inference_s_per_scan": {"ours": ours_scan_s, "peer": peer_scan_s},
        "froc": {group: compared(output, group) for group in GROUPS},
    }


def notes(patch_shape: Sequence[int], tile_shape: Sequence[int]) -> list[str]:
    patch, tile = (" x ".join(map(str, shape)) for shape in (patch_shape, tile_shape))
    return [
        "Phantoms, not patients: nothing here says how either does on real scans.",
        "Ours is lung_ct_nodule_detection as its own config trains it. A short training beforehand "
        "tells how many steps fit into the time, so that the learning rate ends with it.",
        "The peer is MONAI's RetinaNetDetector with the settings of the model zoo's "
        "lung_nodule_ct_detection: anchors (of the same mm), ATSS matching, hard negatives, box "
        "selection, SGD. Its network is built from the published shapes, because MONAI's way to it "
        "imports torchvision. It trains until the time is over; its learning rate rises and falls "
        "at the published shares of the training.",
        f"Both see the same preprocessed scans through the same random crops of {patch} voxels, "
        "flips and intensity changes. The peer is spared its rounding: its boxes and anchors are "
        "not cut to whole voxels. It has the memory format that is faster for it (contiguous; "
        f"ours channels last), and {PEER_BATCH_SIZE} patch a step, since it takes few steps.",
        "Neither is chosen by validation: the last weights count. Time is wall time from the first "
        "batch to the last step, without the preprocessing of the scans.",
        f"Both are applied in tiles of {tile} voxels, each by its own means: the peer's overlap by "
        f"{TILE_OVERLAP:.0%}, as published; a scan that fits into one is not padded to it.",
        "LUNA16's rules: a mark hits within the radius, a nodule's diameter is the mean of its "
        "box's sides, at most 100 marks of a scan count. For nodules under 6 mm, marks on larger "
        "ones are ignored. Intervals are 95 % bootstraps over scans, the difference's paired.",
    ]


def write_findings(datalist: Path, output: Path) -> None:
    """The testing scans and their nodules, for each group those that count and those that do not.

    ``series.csv``, ``<group>_nodules.csv`` and ``<group>_excluded.csv``, in LPS mm.
    """
    items = load_datalist(datalist, "testing")
    nodules = []
    for item in items:
        boxes = boxes_ras_lps(np.reshape(item["boxes"], (-1, 6))).tolist()
        nodules += [(item["patient_id"], *box[:3], sum(box[3:]) / 3) for box in boxes]
    output.mkdir(parents=True, exist_ok=True)
    write_table(output / "series.csv", (), ((item["patient_id"],) for item in items))
    for group in GROUPS:
        counts = [group == "all" or size_class(nodule[4]) == group for nodule in nodules]
        if not any(counts):
            raise ValueError(f"{datalist}: testing must have a nodule of the group {group}, got 0")
        for kind, wanted in (("nodules", True), ("excluded", False)):
            rows = (row for row, is_in in zip(nodules, counts, strict=True) if is_in is wanted)
            write_table(output / f"{group}_{kind}.csv", FINDING_COLUMNS, rows)


def compared(output: Path, group: str) -> dict[str, Any]:
    """CPM of both and their difference on a group's nodules, from the tables in ``output``."""
    series = read_series(output / "series.csv")
    nodules = read_findings(output / f"{group}_nodules.csv", series)
    excluded = read_findings(output / f"{group}_excluded.csv", series)
    ours, peer = (
        match_marks(read_marks(output / side / SUBMISSION, series), nodules, excluded, len(series))
        for side in ("ours", "peer")
    )
    difference, interval = froc_difference(ours, peer)
    return {
        "scans": len(series),
        "nodules": len(nodules.scan),
        "ours": _curve(ours),
        "peer": _curve(peer),
        "cpm_difference": {"value": difference, "low": interval.low, "high": interval.high},
    }


def _curve(marks: MatchedMarks) -> dict[str, Any]:
    cpm = froc_intervals(marks).cpm
    sensitivities = froc_sensitivities(marks)
    return {
        "cpm": {"value": float(sensitivities.mean()), "low": cpm.low, "high": cpm.high},
        "sensitivities": sensitivities.tolist(),
        "found": marks.true,
        "false_marks": marks.false,
    }


def print_record(record: dict[str, Any]) -> None:
    for side in ("ours", "peer"):
        training = record["training"][side]
        print(
            f"{side}: {training['steps']} steps of {training['patches_per_step']} in "
            f"{training['seconds']:.0f} s, {training['median_step_s']:.2f} s a step; "
            f"{record['median_inference_s_per_scan'][side]:.2f} s a scan"
        )
    for group, values in record["froc"].items():
        print(f"{group}: {values['nodules']} nodules in {values['scans']} scans")
        rows = {side: values[side]["cpm"] for side in ("ours", "peer")}
        for name, cpm in {**rows, "ours less peer": values["cpm_difference"]}.items():
            print(f"  CPM {name}: {cpm['value']:.3f} [{cpm['low']:.3f}, {cpm['high']:.3f}]")


if __name__ == "__main__":
    main()
