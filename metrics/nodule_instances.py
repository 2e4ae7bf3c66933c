"""The nodules of a mask, one by one."""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt

from metrics.check_nodule import checked_mask, checked_spacing_mm
from metrics.check_scans import BoolArray

# The volume of a sphere of 3 mm, the smallest nodule that LIDC's readers outlined
# (Armato et al., Med Phys 38:915, 2011).
SPECK_MM3 = 3**3 * np.pi / 6
MOST_INSTANCES = 2**16 - 1  # what uint16 can number; only noise has as many


class NoduleInstances(NamedTuple):
    """Attributes:
    labels: uint16 ``(H, W, D)``, 0 outside and 1, 2 ... in the nodules, the largest first.
    boxes: the smallest box of slices round each, in that order.
    """

    labels: npt.NDArray[np.uint16]
    boxes: tuple[tuple[slice, slice, slice], ...]


def nodule_instances(mask: npt.ArrayLike, spacing_mm: npt.ArrayLike) -> NoduleInstances:
    """Connected components of a mask; voxels that share a corner belong together.

    Components under 14.1 mm3, the volume of a sphere of 3 mm, are specks and dropped, and so are
    all but the 65,535 largest.

    Args:
        mask: ``(H, W, D)`` of 0 and 1.
        spacing_mm: per axis.

    Raises:
        ValueError: another number of axes, a value other than 0 and 1, or a spacing of 0.
    """
    inside, spacing = checked_mask(mask), checked_spacing_mm(spacing_mm)
    labels = np.zeros(inside.shape, dtype=np.uint16)
    if not inside.any():
        return NoduleInstances(labels, ())
    # Most planes of a scan are empty: of each run of them one stays, to part what lies beyond.
    planes = [_filled_and_next(np.any(inside, axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    packed = inside[np.ix_(*planes)].view(np.uint8)
    found = cc3d.connected_components(packed, connectivity=26, binary_image=True)
    statistics = cc3d.statistics(found)
    voxels = np.asarray(statistics["voxel_counts"], dtype=np.int64)
    voxels[0] = 0
    order = np.argsort(-voxels, kind="stable")
    kept = order[voxels[order] * spacing.prod() >= SPECK_MM3][:MOST_INSTANCES]
    boxes = []
    for number, component in enumerate(kept.tolist(), start=1):
        box = statistics["bounding_boxes"][component]
        placed = tuple(
            slice(int(plane[part.start]), int(plane[part.stop - 1]) + 1)
            for plane, part in zip(planes, box, strict=True)
        )
        labels[placed][found[box] == component] = number
        boxes.append((placed[0], placed[1], placed[2]))
    return NoduleInstances(labels, tuple(boxes))


def _filled_and_next(filled: BoolArray) -> npt.NDArray[np.int_]:
    """Indices of the planes that are filled, and of those right after one."""
    kept = filled.copy()
    kept[1:] |= filled[:-1]
    return np.flatnonzero(kept)
