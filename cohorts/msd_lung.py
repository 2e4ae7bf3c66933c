"""MSD Task06: CT of lung cancers with the tumour's mask, as boxes and instances."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cohorts.collection import Collection, datalist_path
from cohorts.convert_collection import convert_collection
from cohorts.convert_scans import ScanJob
from cohorts.datalist import Item
from cohorts.lesion_side import lesion_side
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE
from cohorts.write_nifti import write_nifti
from transforms.boxes_to_voxels import boxes_to_world
from transforms.check_geometry import check_geometry
from transforms.load_mask import load_mask
from transforms.load_scan import load_scan

COLLECTION = Collection(
    name="MSD Task06 Lung",
    description="CT of patients with non-small cell lung cancer; each connected part of the "
    "tumour label is one lesion; the side is that of the lung around it in HU",
    license="CC BY-SA 4.0",
    program="cohorts.msd_lung",
)
# Voxels that touch at a corner belong together.
NEIGHBOURS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class MsdJob(ScanJob):
    """One image of the training part and its label."""

    image: Path
    label: Path


def lesion_instances(label: NDArray[Any]) -> NDArray[np.uint16]:
    """Connected parts of a binary mask (26 neighbours), numbered from 1, the largest first."""
    parts, count = ndimage.label(label, NEIGHBOURS)
    if count > np.iinfo(np.uint16).max:
        raise ValueError(f"a mask must have at most 65535 connected parts, got {count}")
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    number_of = np.zeros(count + 1, np.uint16)
    number_of[order] = np.arange(1, count + 1)
    return number_of[parts]


def convert_msd(job: MsdJob, folder: Path) -> Item:
    """The instance mask of one scan and its datalist item; the image stays where it is."""
    ct, label = load_scan(job.image), load_mask(job.label)
    check_geometry(label, ct)
    if int(label.max()) > 1:
        raise ValueError(f"{job.label}: labels must be 0 and 1, got {int(label.max())}")
    if not label.any():
        raise ValueError(f"{job.label}: a label must mark a tumour, got no voxel of one")
    instances = lesion_instances(label.numpy()[0])
    affine = ct.affine.numpy().astype(np.float64)
    extents = ndimage.find_objects(instances)
    corners = [[*(s.start for s in part), *(s.stop for s in part)] for part in extents]
    boxes_mm = boxes_to_world(torch.tensor(corners, dtype=torch.float64).reshape(-1, 6), ct.affine)
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    voxels = np.bincount(instances.ravel())[1:]
    mask = f"masks/{job.name}.nii.gz"
    write_nifti(instances.T, affine, folder / mask)
    return {
        "patient_id": job.name,
        "source": f"MSD Task06 {job.name}",
        "image": datalist_path(job.image, folder),
        "mask": mask,
        "boxes": boxes_mm.tolist(),
        "box_labels": [1] * len(boxes_mm),
        "nodules": [
            {"instance": number, "malignant": True, "volume_mm3": int(count) * voxel_mm3}
            for number, count in enumerate(voxels, start=1)
        ],
        "risk": 1,
        "side": lesion_side(boxes_mm.tolist(), ct),
    }


def msd_jobs(folder: Path) -> list[MsdJob]:
    """The labelled scans that ``dataset.json`` lists.

    Raises:
        FileNotFoundError: no ``dataset.json``.
        ValueError: it is not JSON of that form.
    """
    path = folder / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the list of scans must exist, got no file")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["training"]
        pairs = [(_below(folder, one["image"]), _below(folder, one["label"])) for one in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: must list its scans as training: [{{image, label}}] in JSON, "
            f"got {type(error).__name__}: {error}"
        ) from error
    return [
        MsdJob(image.name.removesuffix(".gz").removesuffix(".nii"), (image, label), image, label)
        for image, label in pairs
    ]


def _below(folder: Path, name: str) -> Path:
    return folder / PurePosixPath(name)


def _work(options: argparse.Namespace) -> list[str]:
    jobs = msd_jobs(options.input)
    return convert_collection(
        COLLECTION,
        jobs,
        convert_msd,
        options.output,
        workers=options.workers,
        shard=options.shard,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are converted, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.msd_lung",
        description="Turn the tumour labels of MSD Task06_Lung into boxes in mm and instance "
        "masks, and write the datalist; the images stay where they are.",
        epilog="An interrupted run goes on with the same command; scans that fail are named and "
        "the others converted. Only the labelled scans (imagesTr) are listed. They fall into "
        "splits by a hash of their name, 70/15/15.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--input", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder with dataset.json, imagesTr and labelsTr")  # fmt: skip
    add("--output", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder for datalist.json and the masks")  # fmt: skip
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)
    return run_command(lambda: _work(options), options.output)


if __name__ == "__main__":
    sys.exit(main())
