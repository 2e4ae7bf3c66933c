"""One phantom scan: the image, the nodules' masks and boxes, and the lungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts.lidc_nodules import RATINGS, LidcNodule
from cohorts.phantom_anatomy import ChestAnatomy, sample_anatomy
from cohorts.phantom_grid import Array, PhantomGrid
from cohorts.phantom_masses import enlarge_nodule
from cohorts.phantom_nodules import PlacedNodule, draw_nodule, nodule_coverage, place_nodule
from cohorts.phantom_scanner import (
    ScannerSettings,
    acquire,
    average_slices,
    fine_grid,
    scan_grid,
)
from cohorts.phantom_skeleton import Skeleton, skeleton
from cohorts.phantom_tissue import BLOOD_HU, paint_tissue
from cohorts.phantom_tubes import Tubes, draw_tubes
from cohorts.phantom_vessels import VesselTrees, vessel_trees

# The middle of the lungs' height, from the anatomy's origin.
CENTRE_MM = (0.0, -8.0, -10.0)


@dataclass(frozen=True)
class PhantomScan:
    """A finished scan: arrays (z, y, x), the grid they lie on, and its nodules' records."""

    image_hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    lungs: NDArray[np.uint8]
    grid: PhantomGrid
    boxes_mm: list[list[float]]
    nodules: list[dict[str, Any]]
    side: str


def render_scan(
    nodules: list[LidcNodule],
    settings: ScannerSettings,
    rng: np.random.Generator,
    *,
    emphysema: float = 0.0,
    masses_mm: Sequence[float | None] = (),
) -> PhantomScan:
    """A synthetic chest CT with these nodules: the same for the same generator state.

    ``emphysema`` is the share of the lungs that is destroyed, 0 to below 1. ``masses_mm`` has for
    each nodule the diameter it is enlarged to, None to leave it; empty leaves all.
    """
    anatomy_rng, tree_rng, nodule_rng, texture_rng, noise_rng, mass_rng = rng.spawn(6)
    anatomy = sample_anatomy(anatomy_rng)
    x_mm, y_mm, z_mm = np.round(CENTRE_MM + anatomy_rng.normal(0, 4, 3), 1)
    grid = scan_grid(settings, (float(x_mm), float(y_mm), float(z_mm)))
    trees = vessel_trees(anatomy, tree_rng)
    placed: list[PlacedNodule] = []
    for nodule in nodules:
        placed.append(
            place_nodule(
                nodule, anatomy=anatomy, trees=trees, grid=grid, others=placed, rng=nodule_rng
            )
        )
    for index, diameter_mm in enumerate(masses_mm):
        if diameter_mm is not None:
            placed[index] = enlarge_nodule(
                placed[index],
                diameter_mm,
                anatomy=anatomy,
                trees=trees,
                grid=grid,
                others=placed[:index] + placed[index + 1 :],
                rng=mass_rng,
            )
    fine = fine_grid(settings, grid)
    bones = skeleton(anatomy, anatomy_rng)
    hu, left, right = _render(
        anatomy, fine, trees=trees, bones=bones, rng=texture_rng, emphysema=emphysema
    )
    for item in placed:
        draw_nodule(hu, fine, placed=item, anatomy=anatomy, rng=nodule_rng)
    step_mm = settings.spacing_mm[2]
    left = average_slices(left, fine, grid, step_mm)
    right = average_slices(right, fine, grid, step_mm)
    lungs = np.where(np.maximum(left, right) >= 0.5, np.where(left >= right, 1, 2), 0)
    del left, right
    image = acquire(
        average_slices(hu, fine, grid, settings.thickness_mm), grid, settings, noise_rng
    )
    mask, boxes, records = _label(placed, anatomy, grid)
    sides = {item.side for item in placed if item.nodule.malignant}
    side = "both" if len(sides) == 2 else next(iter(sides), "none")
    return PhantomScan(image, mask, lungs.astype(np.uint8), grid, boxes, records, side)


def _render(
    anatomy: ChestAnatomy,
    fine: PhantomGrid,
    *,
    trees: VesselTrees,
    bones: Skeleton,
    rng: np.random.Generator,
    emphysema: float,
) -> tuple[Array, Array, Array]:
    own = fine.scaled(1 / anatomy.scale)
    hu, left, right = paint_tissue(anatomy, own, rng, emphysema=emphysema)
    lung = np.maximum(left, right)
    cover = np.zeros(hu.shape, dtype=np.float32)

    def paint(tubes: Tubes, value: float, within: Array | None = None) -> None:
        cover.fill(0)
        draw_tubes(cover, own, tubes)
        if within is not None:
            np.multiply(cover, within, out=cover)
        np.multiply(cover, np.float32(value) - hu, out=cover)
        np.add(hu, cover, out=hu)

    outside = 1 - lung
    blood = BLOOD_HU + 0.9 * anatomy.contrast_hu
    paint(trees.oesophagus, 35.0, outside)
    paint(trees.great_vessels, blood, outside)
    paint(bones.cartilage, 95.0, outside)
    paint(bones.bones, 430.0, outside)
    paint(bones.bones.grown(-1.6), 140.0, outside)
    paint(trees.lung_vessels, BLOOD_HU - 10 + 0.6 * anatomy.contrast_hu, lung)
    paint(trees.airways.grown(0.7), -60.0)
    paint(trees.airways, -985.0)
    return hu, left, right


def _label(
    placed: list[PlacedNodule], anatomy: ChestAnatomy, grid: PhantomGrid
) -> tuple[NDArray[np.uint8], list[list[float]], list[dict[str, Any]]]:
    mask = np.zeros(grid.shape, dtype=np.uint8)
    boxes: list[list[float]] = []
    records: list[dict[str, Any]] = []
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    for instance, item in enumerate(placed, start=1):
        box, share = nodule_coverage(item, anatomy, grid)
        # A nodule smaller than half a voxel keeps the voxel it fills most.
        chosen = share >= min(0.5, float(share.max()))
        mask[box][chosen] = instance
        boxes.append(_box_mm(mask == instance, grid))
        volume = float(share.sum(dtype=np.float64)) * voxel_mm3
        records.append(_record(item, instance, volume))
    return mask, boxes, records


def _box_mm(mask: NDArray[np.bool_], grid: PhantomGrid) -> list[float]:
    """Centre and size in RAS mm of the voxel cells that the mask spans."""
    affine = grid.affine
    centre, size = [], []
    for axis in range(3):
        rest = tuple(other for other in range(3) if other != 2 - axis)
        used = np.flatnonzero(mask.any(axis=rest))
        middle = (int(used[0]) + int(used[-1])) / 2
        centre.append(round(float(affine[axis, 3] + affine[axis, axis] * middle), 4))
        size.append(round((int(used[-1]) - int(used[0]) + 1) * grid.spacing_mm[axis], 4))
    return centre + size


def _record(item: PlacedNodule, instance: int, volume_mm3: float) -> dict[str, Any]:
    nodule = item.nodule
    enlarged = {"enlarged": round(item.enlarged, 4)} if item.enlarged > 1 else {}
    return {
        "instance": instance,
        "malignancy": round(nodule.ratings["malignancy"], 3),
        "malignant": nodule.malignant,
        "diameter_mm": round((6 * volume_mm3 / np.pi) ** (1 / 3), 3),
        "volume_mm3": round(volume_mm3, 2),
        "kind": item.kind,
        "site": item.site,
        **enlarged,
        "side": item.side,
        "centre_mm": [round(float(value), 3) for value in item.centre_mm],
        **{name: round(nodule.ratings[name], 3) for name in RATINGS if name != "malignancy"},
        "readers": len(nodule.readings),
        "lidc_patient_id": nodule.patient_id,
        "lidc_annotation_ids": [reading.annotation_id for reading in nodule.readings],
    }
