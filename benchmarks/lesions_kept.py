"""``python -m benchmarks.lesions_kept``: the LIDC-IDRI readings that a coarse grid loses.

Every reader's outline of every nodule becomes a mask on its scan's voxels and is brought to the
network's feature grid, by our any-overlap rule and by the usual two ways of resampling.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from benchmarks.report import Row, write_report
from cohorts.lidc_nodules import LidcNodule, LidcReading, lidc_database, read_lidc_nodules
from cohorts.lidc_shape import consensus_mask
from transforms.downsample_mask import downsample_mask

STRIDES = (4, 8, 16)
# torch's plain "nearest" takes a cell's first voxel, "nearest-exact" the one at its centre.
_PEERS = {"nearest": "nearest-exact", "trilinear": "trilinear"}


class PlacedReading(NamedTuple):
    """One reading's voxels in its scan, ``(N, 3)`` rows of column, row, slice from the lowest.

    ``outline_slices`` counts those of its ``slices`` where no outline encloses a pixel, so that
    the outlines themselves stand for the nodule.
    """

    voxels: NDArray[np.int64]
    outline_slices: int
    slices: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lesions_kept", description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    readings, with_outline, all_outline = 0, 0, 0
    losses: Counter[tuple[int, str]] = Counter()
    for placed in placed_readings():
        readings += 1
        with_outline += placed.outline_slices > 0
        all_outline += placed.outline_slices == placed.slices
        for stride in STRIDES:
            losses.update((stride, way) for way in ways_that_lose(placed.voxels, stride))
    write_report(
        "lesions_kept",
        [
            Row(
                f"LIDC readings lost at stride {stride}, {way} sampling",
                losses[stride, "any overlap"],
                losses[stride, way],
                f"of {readings} readings",
            )
            for stride in STRIDES
            for way in _PEERS
        ],
        notes=(
            "Each reader's outline of each LIDC-IDRI nodule of 3 mm or more, on the voxels of its "
            "scan, not resampled; lost means that no cell of the feature grid is left marked.",
            "A mask lies where it lies in its scan, columns, rows and slices counted from the "
            "first; the stride is the same on all axes, and a scan that it does not divide counts "
            "as padded at its end. Stride 4 brings 512 x 512 x 200 to 128 x 128 x 50.",
            "Ours is transforms.downsample_mask. The peers are torch.nn.functional.interpolate: "
            "nearest is mode nearest-exact, the voxel at the cell's centre; trilinear is "
            "align_corners=False without antialiasing, marked above 0.5.",
            "The outline runs outside the nodule and is left out, as in pylidc. One that encloses "
            "no pixel is counted itself, which only makes masks larger: "
            f"{with_outline} readings have a slice marked by such outlines alone, "
            f"{all_outline} have no other slice.",
        ),
    )


def placed_readings() -> Iterator[PlacedReading]:
    """Every reading of LIDC-IDRI, in the order of :func:`cohorts.read_lidc_nodules`."""
    slices_mm: dict[int, list[float]] = {}
    with closing(sqlite3.connect(f"{lidc_database().as_uri()}?mode=ro", uri=True)) as database:
        for scan_id, z_mm in database.execute("SELECT scan_id, val FROM zvals ORDER BY val"):
            slices_mm.setdefault(scan_id, []).append(z_mm)
    for nodule in read_lidc_nodules():
        for reading in nodule.readings:
            yield place_reading(nodule, reading, slices_mm[nodule.scan_id])


def place_reading(
    nodule: LidcNodule, reading: LidcReading, slices_mm: list[float]
) -> PlacedReading:
    """The voxels of a reading in its scan, whose slices lie at the ascending ``slices_mm``."""
    mask = consensus_mask(replace(nodule, readings=(reading,)))
    points = np.concatenate([contour.points for contour in reading.contours])
    z_mm = np.concatenate([[contour.z_mm] * len(contour.points) for contour in reading.contours])
    # The mask's grid has one voxel of margin round the outlines.
    corner = np.array([*points.min(axis=0), np.searchsorted(slices_mm, z_mm.min())]) - 1
    inside = mask.copy()
    depth = np.rint((z_mm - z_mm.min()) / nodule.spacing_mm[2]).astype(int) + 1
    inside[(*(points - corner[:2]).T, depth)] = False
    marked = mask.any(axis=(0, 1))
    outline_slices = int((marked & ~inside.any(axis=(0, 1))).sum())
    return PlacedReading(np.argwhere(mask) + corner, outline_slices, int(marked.sum()))


def ways_that_lose(voxels: NDArray[np.int64], stride: int) -> list[str]:
    """Of ``any overlap`` (ours), ``nearest`` and ``trilinear``, those that keep no voxel.

    Args:
        voxels: ``(N, 3)`` indices of the lesion in a scan.
        stride: voxels per cell along each axis; cells are counted from the scan's first voxel.
    """
    # Cells far from the lesion stay empty whichever way: those it overlaps are enough.
    first = voxels.min(axis=0) // stride
    cells = tuple((voxels.max(axis=0) // stride - first + 1).tolist())
    mask = torch.zeros(1, *(stride * count for count in cells))
    mask[(0, *torch.from_numpy(voxels - first * stride).T)] = 1
    kept = {"any overlap": downsample_mask(mask, cells)}
    for way, mode in _PEERS.items():
        kept[way] = interpolate(mask[None], size=cells, mode=mode) > 0.5
    return [way for way, small in kept.items() if not small.any()]


if __name__ == "__main__":
    main()
