"""Mammogram cohorts: a few synthetic 2D images on which a 2D network can be tried."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cohorts.datalist import SPLITS, write_datalist
from cohorts.mammogram_image import COLUMNS, PIXEL_MM, ROWS, MassShape, render_mammogram
from cohorts.run_command import run_command
from cohorts.write_nifti import write_nifti

GENERATOR_VERSION = 1
LICENSE = (
    "Synthetic images drawn from formulas and a seed, without any patient's data; free of rights "
    "(CC0 1.0)"
)
POSITIVE_FRACTION = 0.5
BENIGN_FRACTION = 0.6  # of all images, with or without a cancer, that carry a benign mass
RADIUS_MM = (4.0, 9.0)


@dataclass(frozen=True)
class MammogramSettings:
    """How many images a cohort has; two equal settings give byte-equal cohorts."""

    training: int = 60
    validation: int = 20
    testing: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        counts = [self.training, self.validation, self.testing]
        if min(counts) < 0 or sum(counts) == 0:
            raise ValueError(f"the numbers of images must be 0 or more and not all 0, got {counts}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


def make_mammograms(settings: MammogramSettings, folder: str | Path) -> Path:
    """Make a mammogram cohort and return the path of its ``datalist.json``.

    Half of the images carry a spiculated mass and have risk 1; with and without it, most carry a
    smooth benign mass, so that a mass alone is no sign. One breast and one image for each patient.

    Raises:
        ValueError: a setting breaks its rule.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "datalist.json"
    # The list of an older cohort would name images that are about to change.
    path.unlink(missing_ok=True)
    splits: dict[str, list[dict[str, Any]]] = {}
    made = 0
    for code, split in enumerate(SPLITS):
        count = getattr(settings, split)
        rng = np.random.default_rng([settings.seed, code])
        positive = rng.permutation(count) < round(count * POSITIVE_FRACTION)
        generators = rng.spawn(count)
        splits[split] = [
            _make_item(f"mammogram-{made + index:06d}", bool(positive[index]), generator, folder)
            for index, generator in enumerate(generators)
        ]
        made += count
    write_datalist({**_header(settings), **splits}, path)
    return path


def _make_item(
    patient_id: str, positive: bool, rng: np.random.Generator, folder: Path
) -> dict[str, Any]:
    laterality = str(rng.choice(["left", "right"]))
    shapes = [MassShape(float(rng.uniform(*RADIUS_MM)), malignant=True)] if positive else []
    if rng.random() < BENIGN_FRACTION:
        shapes.append(MassShape(float(rng.uniform(*RADIUS_MM)), malignant=False))
    phantom = render_mammogram(shapes, laterality, rng)
    name = f"{patient_id}.nii.gz"
    write_nifti(phantom.image_counts, phantom.affine, folder / "images" / name)
    write_nifti(phantom.mask, phantom.affine, folder / "masks" / name)
    return {
        "patient_id": patient_id,
        "image": f"images/{name}",
        "mask": f"masks/{name}",
        "boxes": phantom.boxes_mm,
        "box_labels": [int(shape.malignant) for shape in shapes],
        "masses": phantom.masses,
        "risk": int(positive),
        "side": laterality if positive else "none",
        "laterality": laterality,
    }


def _header(settings: MammogramSettings) -> dict[str, Any]:
    return {
        "name": "mammogram-phantom",
        "description": "Synthetic mammograms, one breast each; pixel values are made-up counts "
        "from 0 to 4095",
        "license": LICENSE,
        "world_frame": "RAS",
        "box_mode": "ccwh",
        "box_unit": "mm",
        "box_label_names": ["benign", "malignant"],
        "synthetic": True,
        "generator": {
            "program": "cohorts.mammogram_phantom",
            "version": GENERATOR_VERSION,
            "rows": ROWS,
            "columns": COLUMNS,
            "pixel_mm": PIXEL_MM,
            **asdict(settings),
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when the cohort is complete, 1 on an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.mammogram_phantom",
        description="Make synthetic mammograms with smooth and spiculated masses.",
        epilog="The same options give the same bytes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    cohort = MammogramSettings()
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the images")  # fmt: skip
    add("--train", type=int, default=cohort.training, help="training images")
    add("--validation", type=int, default=cohort.validation, help="validation images")
    add("--test", type=int, default=cohort.testing, help="testing images")
    add("--seed", type=int, default=cohort.seed, help="other seeds make other patients")
    options = parser.parse_args(arguments)

    def work() -> None:
        settings = MammogramSettings(options.train, options.validation, options.test, options.seed)
        print(make_mammograms(settings, options.output))

    return run_command(work, options.output)


if __name__ == "__main__":
    sys.exit(main())
