"""``python -m cohorts.check DATALIST``: whether every scan is what its datalist says."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cohorts.check_item import ItemReport, check_item
from cohorts.datalist import BOX_MODES, SPLITS, Item, read_datalist
from cohorts.run_command import run_command
from cohorts.worker_pool import map_in_workers

# Keys that tell two items of one patient or one scan, whatever their patient_id.
IDENTITIES = ("patient_id", "image", "series_uid", "source")


def check_datalist_scans(path: Path, *, workers: int = 1) -> tuple[list[ItemReport], list[str]]:
    """Check every scan of a datalist, and that no patient or scan is in two splits.

    Returns:
        A report for each scan in the datalist's order, and a sentence for each error of the
        datalist itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no datalist at all, or ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    errors: list[str] = []
    try:
        datalist = read_datalist(path)
    except ValueError as error:
        datalist = _raw(path, error)
        errors.append(str(error))
    items = [(split, item) for split in SPLITS for item in datalist.get(split, [])]
    if not items:
        raise ValueError(f"{path}: the datalist must list at least one scan, got none")
    # The rule broken first may be one of these, in other words.
    errors += [one for one in leakage(datalist) if one.partition("got ")[2] not in "".join(errors)]
    check = partial(
        _numbered_report, folder=path.parent, spatial_dims=BOX_MODES[datalist["box_mode"]] // 2
    )
    tasks = [(number, split, item) for number, (split, item) in enumerate(items)]
    reports = {}
    with tqdm(total=len(tasks), desc="scans", unit="scan") as bar:
        for number, report in map_in_workers(check, tasks, workers):
            reports[number] = report
            bar.update()
    return [reports[number] for number in sorted(reports)], errors


def leakage(datalist: dict[str, Any]) -> list[str]:
    """A sentence for each patient or scan that is in more than one split."""
    errors = []
    for key in IDENTITIES:
        splits_of: dict[str, set[str]] = {}
        for split in SPLITS:
            for item in datalist.get(split, []):
                if key in item:
                    splits_of.setdefault(str(item[key]), set()).add(split)
        for value, splits in splits_of.items():
            if len(splits) > 1:
                named = " and ".join(split for split in SPLITS if split in splits)
                errors.append(f"{key} must be in one split, got {value} in {named}")
    return errors


def report_table(reports: Sequence[ItemReport]) -> str:
    """One line for each scan: split, patient, shape, spacing, values, boxes, what is wrong."""
    header = ("split", "patient", "shape", "spacing mm", "values", "boxes", "result")
    rows = [header]
    for one in reports:
        low_high = "" if one.values is None else f"{one.values[0]:g} to {one.values[1]:g}"
        result = "; ".join([*one.errors, *one.notes]) or "ok"
        rows.append(
            (
                one.split,
                one.patient_id,
                "x".join(map(str, one.shape)),
                " x ".join(f"{value:.3g}" for value in one.spacing_mm),
                low_high,
                str(one.boxes),
                f"error: {result}" if one.errors else result,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
    lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
    return "\n".join(lines)


def _numbered_report(
    task: tuple[int, str, Item], *, folder: Path, spatial_dims: int
) -> tuple[int, ItemReport]:
    number, split, item = task
    return number, check_item(item, split, folder, spatial_dims=spatial_dims)


def _raw(path: Path, error: ValueError) -> dict[str, Any]:
    """A datalist that breaks a rule but has the form to be looked at scan by scan."""
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
        items = [item for split in SPLITS for item in datalist.get(split, [])]
        whole = datalist["box_mode"] in BOX_MODES and all(
            isinstance(item[key], str) for item in items for key in ("patient_id", "image")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise error
    return dict(datalist)


def _work(options: argparse.Namespace) -> list[str]:
    reports, errors = check_datalist_scans(options.datalist, workers=options.workers)
    print(report_table(reports))
    wrong = sum(bool(report.errors) for report in reports)
    print(f"{len(reports)} scans, {wrong} with an error")
    return [*errors, *(f"{one.patient_id}: {error}" for one in reports for error in one.errors)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when every scan is as listed, 1 where one is not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.check",
        description="Read every scan of a datalist and check it: the files open, values are HU, "
        "the spacing, boxes inside the image, masks and lungs on its grid, the side of the "
        "cancer against its boxes, and no patient in two splits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("datalist", type=Path, help="the cohort's JSON")
    parser.add_argument(
        "--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.datalist.parent)


if __name__ == "__main__":
    sys.exit(main())
