"""LUNA16: its scans and nodules as a datalist for each of the ten official folds."""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cohorts.collection import Collection, datalist_path, split_counts
from cohorts.csv_table import read_table
from cohorts.datalist import Item, write_datalist
from cohorts.lidc_nodules import lidc_database
from cohorts.nodule_rows import NoduleRow, check_centres, images_by_name, list_missing, nodule_row
from cohorts.run_command import run_command
from cohorts.scan_grid import scan_grid

CENTRE = ("coordX", "coordY", "coordZ")
FOLDS = tuple(range(10))
COLLECTION = Collection(
    name="LUNA16",
    description="CT scans of LIDC-IDRI with the nodules of 3 mm or more that three or four of "
    "four readers marked; each box is the cube of the nodule's diameter; no word on cancer",
    license="CC BY 4.0",
    program="cohorts.luna16",
    box_label_names=("nodule",),
    knows_cancer=False,
)


class Luna16:
    """LUNA16 as it lies on the disk: subsets, nodules, images, and what is wrong with each scan.

    Args:
        folder: holds ``subset0`` to ``subset9`` with the images, and ``annotations.csv``.
        annotations: the nodules' table, where it lies elsewhere.
        subsets: JSON ``{series: subset}``, for images that are not in folders named so; left out,
            ``uid_to_subset.json`` of the folder is used where it is there.

    Attributes:
        subset_of: subset of each series.
        nodules: the nodules of each series that has one.
        images: file of each series that is there.
        failures: a sentence for each series whose scan or rows are wrong.

    Raises:
        FileNotFoundError: the folder or the table is missing.
        ValueError: the table or the JSON breaks its form.
    """

    def __init__(
        self, folder: Path, *, annotations: Path | None = None, subsets: Path | None = None
    ) -> None:
        found = images_by_name(folder)
        listed = subsets or folder / "uid_to_subset.json"
        self._folder = folder
        self._listed = listed if subsets or listed.is_file() else None
        self.subset_of = _read_subsets(self._listed) if self._listed else _folder_subsets(found)
        self.images = {series: found[series] for series in self.subset_of if series in found}
        self.failures: dict[str, str] = {}
        self.nodules: dict[str, list[NoduleRow]] = {}
        self._read_annotations(annotations or folder / "annotations.csv")
        self._check_images()
        self._patients = _lidc_patients()

    @property
    def missing(self) -> list[str]:
        """Series that have no image here, in order; without a subset, those with nodules."""
        return sorted((set(self.subset_of) | set(self.nodules)) - set(self.images))

    def items(self, folder: Path, *, clean_scans: bool, missing: bool) -> dict[str, Item]:
        """A datalist's items by series, for those with a subset.

        Args:
            folder: of the datalist.
            clean_scans: also those without a nodule.
            missing: also those whose image is not here, named as it will be in its subset.
        """
        items = {}
        for series, subset in sorted(self.subset_of.items()):
            nodules = self.nodules.get(series, [])
            here = series in self.images or missing
            if series in self.failures or not here or not (nodules or clean_scans):
                continue
            image = self.images.get(series, self._folder / f"subset{subset}" / f"{series}.mhd")
            items[series] = {
                "patient_id": self._patients.get(series, series),
                "source": f"LUNA16 {series}",
                "series_uid": series,
                "subset": subset,
                "image": datalist_path(image, folder),
                "boxes": [list(nodule.box_mm) for nodule in nodules],
                "box_labels": [0] * len(nodules),
                "risk": 0,
                "side": "none",
            }
        return items

    def _read_annotations(self, path: Path) -> None:
        seen: dict[tuple[str, ...], str] = {}
        for row in read_table(path, ("seriesuid", *CENTRE, "diameter_mm")):
            series = row.text("seriesuid")
            try:
                cells = (series, *(row.text(column) for column in CENTRE))
                if cells in seen:
                    raise ValueError(
                        f"{row.place}: a nodule must be named once, got it also in {seen[cells]}"
                    )
                seen[cells] = row.place
                if self._listed and series not in self.subset_of:
                    raise ValueError(
                        f"{row.place}: seriesuid must be in {self._listed.name}, got {series}"
                    )
                nodule = nodule_row(row, CENTRE, row.number("diameter_mm"), {})
                self.nodules.setdefault(series, []).append(nodule)
            except ValueError as error:
                self.failures.setdefault(series, str(error))

    def _check_images(self) -> None:
        for series, image in tqdm(self.images.items(), desc="scans", unit="scan"):
            try:
                check_centres(self.nodules.get(series, []), scan_grid(image))
            except ValueError as error:
                self.failures.setdefault(series, str(error))


def luna16_fold(
    items: Mapping[str, Item], fold: int, *, validation_subset: int | None = None
) -> dict[str, Any]:
    """The datalist of one official fold: subset ``fold`` is held out, the others are training.

    The subset held out is the validation split. With a ``validation_subset`` that one is taken
    from training for validation, and the subset held out is the testing split. Of a patient
    with scans on both sides, those in training are left out (LIDC-IDRI-0332 is the only one, in
    subsets 2 and 6).

    Raises:
        ValueError: a fold that is not 0 to 9, or a validation subset that is the one held out.
    """
    for name, subset in (("fold", fold), ("validation_subset", validation_subset)):
        if subset is not None and subset not in FOLDS:
            raise ValueError(f"{name} must be within 0 and 9, got {subset}")
    if validation_subset == fold:
        raise ValueError(f"validation_subset must not be the fold held out, got {fold} twice")
    held_out = "validation" if validation_subset is None else "testing"
    split_of = {fold: held_out}
    if validation_subset is not None:
        split_of[validation_subset] = "validation"
    splits: dict[str, list[Item]] = {"training": [], "validation": [], "testing": []}
    taken: dict[str, str] = {}
    left_out = []
    # Those held out come first: they keep their patients.
    for item in sorted(items.values(), key=lambda item: _turn(item["subset"], split_of)):
        split = split_of.get(item["subset"], "training")
        if taken.setdefault(item["patient_id"], split) == split:
            splits[split].append(item)
        else:
            left_out.append(item["series_uid"])
    settings = {"fold": fold, "validation_subset": validation_subset, "left_out": left_out}
    return COLLECTION.datalist(splits, settings)


def _turn(subset: int, split_of: Mapping[int, str]) -> int:
    return ("testing", "validation", "training").index(split_of.get(subset, "training"))


def _read_subsets(path: Path) -> dict[str, int]:
    try:
        subset_of = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: the subsets must be JSON, got {error}") from error
    if not isinstance(subset_of, dict) or not all(
        value in FOLDS and not isinstance(value, bool) for value in subset_of.values()
    ):
        raise ValueError(f"{path}: the subsets must be {{series: 0 to 9}}, got something else")
    return subset_of


def _folder_subsets(images: Mapping[str, Path]) -> dict[str, int]:
    subset_of = {}
    for series, path in images.items():
        names = [re.fullmatch(r"subset(\d)", folder.name) for folder in path.parents]
        subset = next((name[1] for name in names if name), None)
        if subset is not None:
            subset_of[series] = int(subset)
    return subset_of


def _lidc_patients() -> dict[str, str]:
    """LIDC-IDRI's patient of each series, which LUNA16 itself does not tell."""
    uri = f"{lidc_database().resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        return dict(database.execute("SELECT series_instance_uid, patient_id FROM scans"))


def _work(options: argparse.Namespace) -> list[str]:
    luna16 = Luna16(options.input, annotations=options.annotations, subsets=options.subsets)
    items = luna16.items(
        options.output, clean_scans=options.clean_scans, missing=options.allow_missing
    )
    missing = [] if options.allow_missing else luna16.missing
    absent = list_missing(missing, options.input, options.output)
    if not items:
        raise ValueError(
            f"{options.input}: subset0 to subset9 must hold at least one image of a scan in "
            f"annotations.csv, got {len(luna16.images)} images; --subsets names the subsets of "
            "images in other folders, --allow-missing lists those that are yet to come"
        )
    for fold in options.fold:
        datalist = luna16_fold(items, fold, validation_subset=options.validation_subset)
        path = options.output / f"fold{fold}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
        for series in datalist["generator"]["left_out"]:
            print(f"{path}: left out, its patient is held out: {series}")
    return [*(luna16.failures[series] for series in sorted(luna16.failures)), *absent]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are listed, 1 where some are not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.luna16",
        description="Write LUNA16's official folds as datalists; the images stay where they are.",
        epilog="In fold n subset n is the validation split and the other nine are training, as "
        "in the published splits. With --validation-subset it is the testing split instead, so "
        "that what chooses the weights is not what judges them. Scans that are wrong or not here "
        "are named, and the datalists list the others.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with subset0 to subset9 and annotations.csv")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for fold0.json to fold9.json")  # fmt: skip
    add("--fold", type=int, nargs="+", choices=FOLDS, default=FOLDS, help="which folds")
    add("--validation-subset", type=int, choices=FOLDS, default=None,
        help="take this subset from training to validate with; the fold then tests")  # fmt: skip
    add("--clean-scans", action="store_true", help="also list the scans without a nodule")
    add("--annotations", type=Path, default=None,
        help="table of the nodules; left out, annotations.csv of the input")  # fmt: skip
    add("--subsets", type=Path, default=None,
        help="JSON {series: subset} for images in folders of other names; left out, "
        "uid_to_subset.json of the input where it is there")  # fmt: skip
    add("--allow-missing", action="store_true",
        help="also list scans whose image is not there, as INPUT/subsetN/SERIES.mhd")  # fmt: skip
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
