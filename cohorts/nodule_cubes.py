"""67 nodules of LIDC-IDRI as cubes: HU, one reader's mask, and datalists of five folds."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.collection import Collection, split_counts
from cohorts.convert_scans import ScanJob, convert_scans
from cohorts.datalist import Item, write_datalist
from cohorts.run_command import run_command
from cohorts.write_nifti import write_nifti
from transforms.boxes_to_voxels import boxes_to_world

# Two cubes, of slices 2 mm apart, hold steps of exactly 1/3200, half a HU: the width is 1600 HU.
# Of all cubes together the modes of lung, fat and muscle are then at -867, -99 and 40 HU.
LOW_HU, WIDTH_HU = -1200.0, 1600.0
FOLDS = 5
VALIDATION_STEP = 8  # one patient in so many of those that are not tested
# Each by the one reader whose outline the mask is.
CUBE_RATINGS = (
    "lobulation",
    "sphericity",
    "margin",
    "texture",
    "malignancy",
    "spiculation",
    "subtlety",
)
# The file's columns run to the patient's left, its rows to the back; slices are turned to rise.
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
COLLECTION = Collection(
    name="LIDC-IDRI nodule cubes",
    description="Nodules of LIDC-IDRI in the middle of cubes of 51 voxels, with the outline and "
    "ratings of one reader each; no word on cancer. The file has no spacing: a voxel is written "
    "as 1 mm, so that mm are voxels here. The file has no HU: its values of 0 to 1 are written as "
    "-1200 to 400 HU, and what was outside is lost. A patient is the number that a name begins "
    "with.",
    license="CC BY 3.0",
    program="cohorts.nodule_cubes",
    box_label_names=("nodule",),
    knows_cancer=False,
)


@dataclass(frozen=True)
class CubeJob(ScanJob):
    """One cube of the file."""

    index: int

    @property
    def patient_id(self) -> str:
        return f"cubes-{int(self.name.partition('_')[0]):03d}"


@lru_cache(maxsize=1)
def read_cubes(path: Path) -> Mapping[str, NDArray[Any]]:
    """The file's arrays: ``image`` and ``mask`` ``(N, rows, columns, slices)``, slices from the
    head down, ``name`` ``(N,)`` and each of `CUBE_RATINGS` ``(N,)``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another form, or a name that is there twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the cubes must exist, got no file")
    try:
        with np.load(path, allow_pickle=False) as file:
            cubes = {key: file[key] for key in ("image", "mask", "name", *CUBE_RATINGS)}
    except (KeyError, ValueError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(
            f"{path}: must be a npz with image, mask, name and ratings, got {error}"
        ) from error
    shape = cubes["image"].shape
    if len(shape) != 4 or not shape[0] or cubes["mask"].shape != shape:
        raise ValueError(
            f"{path}: image and mask must be of one shape (cubes, rows, columns, slices), "
            f"got {shape} and {cubes['mask'].shape}"
        )
    names = [str(name) for name in cubes["name"]]
    for key in ("name", *CUBE_RATINGS):
        if cubes[key].shape != shape[:1]:
            raise ValueError(
                f"{path}: {key} must have one value for each of {shape[0]} cubes, "
                f"got shape {cubes[key].shape}"
            )
    for name in names:
        if re.fullmatch(r"\d+_nod\d+_ann\d+", name) is None or names.count(name) > 1:
            raise ValueError(
                f"{path}: names must be once each of the form 0_nod1_ann0, got {name!r}"
            )
    return cubes


def convert_cube(job: CubeJob, folder: Path) -> Item:
    """Write a cube's image in HU and its mask, both ``(columns, rows, slices)``; their item."""
    cubes = read_cubes(job.sources[0])
    image = cubes["image"][job.index].astype(np.float64)
    mask = cubes["mask"][job.index]
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"{job.sources[0]}: values must lie within 0 and 1, got {image.min():g} to "
            f"{image.max():g} in {job.name}"
        )
    if not np.isin(mask, (0, 1)).all() or not mask.any():
        raise ValueError(
            f"{job.sources[0]}: a mask must hold 0 and 1, got {np.unique(mask).tolist()} in "
            f"{job.name}"
        )
    hu = np.rint(LOW_HU + WIDTH_HU * image).astype(np.int16)
    # As write_nifti has them: slices, rising, then rows and columns.
    hu, mask = (array.transpose(2, 0, 1)[::-1] for array in (hu, mask.astype(np.uint8)))
    name = f"{job.name}.nii.gz"
    write_nifti(hu, AFFINE, folder / "images" / name)
    write_nifti(mask, AFFINE, folder / "masks" / name)
    places = np.argwhere(mask.T)
    corners = torch.as_tensor([[*places.min(axis=0), *(places.max(axis=0) + 1)]]).double()
    ratings = {key: float(cubes[key][job.index]) for key in CUBE_RATINGS}
    return {
        "patient_id": job.patient_id,
        "source": f"{job.sources[0].name} {job.name}",
        "image": f"images/{name}",
        "mask": f"masks/{name}",
        "boxes": boxes_to_world(corners, torch.as_tensor(AFFINE)).tolist(),
        "box_labels": [0],
        "nodules": [{"instance": 1, "voxels": len(places), **ratings}],
        "risk": 0,
        "side": "none",
    }


def cube_folds(items: Sequence[Item], *, seed: int = 0) -> list[dict[str, list[Item]]]:
    """Items by split for each of the five folds; a patient's are together.

    Each patient is tested in one fold. The folds are alike in size: of five patients that follow
    one another in the voxels of their largest nodule, each goes to another fold. Of those that a
    fold does not test, every eighth by size validates.

    Args:
        items: of :func:`convert_cube`.
        seed: of who goes where.

    Raises:
        ValueError: fewer than ten patients.
    """
    voxels: dict[str, int] = {}
    for item in items:
        size = max(nodule["voxels"] for nodule in item["nodules"])
        voxels[item["patient_id"]] = max(size, voxels.get(item["patient_id"], 0))
    if len(voxels) < 2 * FOLDS:
        raise ValueError(f"five folds must have ten patients or more, got {len(voxels)}")
    by_size = sorted(voxels, key=lambda patient: (voxels[patient], patient))
    random = np.random.default_rng(seed)
    dealt = np.concatenate([random.permutation(FOLDS) for _ in range(0, len(by_size), FOLDS)])
    fold_of = dict(zip(by_size, dealt.tolist(), strict=False))
    folds = []
    for fold in range(FOLDS):
        others = [patient for patient in by_size if fold_of[patient] != fold]
        validating = set(others[VALIDATION_STEP // 2 :: VALIDATION_STEP])
        splits: dict[str, list[Item]] = {"training": [], "validation": [], "testing": []}
        for item in items:
            patient = item["patient_id"]
            split = "validation" if patient in validating else "training"
            splits["testing" if fold_of[patient] == fold else split].append(item)
        folds.append(splits)
    return folds


def _work(options: argparse.Namespace) -> list[str]:
    names = read_cubes(options.input)["name"].tolist()
    jobs = [CubeJob(name, (options.input,), index) for index, name in enumerate(names)]
    converted = convert_scans(jobs, convert_cube, options.output, version=COLLECTION.version)
    if not converted.items:
        return list(converted.failures)
    folds = cube_folds(converted.items, seed=options.seed)
    for fold, splits in enumerate(folds):
        path = options.output / f"fold{fold}.json"
        settings = {
            "fold": fold,
            "seed": options.seed,
            "intensity": {"low_hu": LOW_HU, "high_hu": LOW_HU + WIDTH_HU},
        }
        datalist = COLLECTION.datalist(splits, settings)
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
    return list(converted.failures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all cubes are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.nodule_cubes",
        description="Write LIDC-IDRI nodules that lie as cubes in one npz as NIfTI in HU, with "
        "their masks, and five datalists, fold0.json to fold4.json.",
        epilog="Each patient is in the testing part of one fold. An interrupted run goes on with "
        "the same command; cubes that fail are named and the others converted.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="the npz: image, mask, name and the reader's ratings")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for the datalists, the images and the masks")  # fmt: skip
    add("--seed", type=int, default=0, help="of the folds")
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
