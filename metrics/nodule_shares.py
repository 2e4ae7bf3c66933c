"""Which predicted voxels are whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import BoolArray
from metrics.nodule_instances import NoduleInstances

Box = tuple[slice, ...]
Labels = npt.NDArray[np.integer]


class NoduleShares(NamedTuple):
    """Attributes:
    labels: uint16 ``(H, W, D)``, in the predicted voxels of a nodule the nodule's label, else 0.
    boxes: label of each nodule to the smallest box round it and its share.
    touching: the components that touch a nodule.
    """

    labels: npt.NDArray[np.uint16]
    boxes: dict[int, Box]
    touching: set[int]


def nodule_shares(
    truth: Labels, components: NoduleInstances, spacing_mm: FloatArray
) -> NoduleShares:
    """Give each predicted component to the true nodules that it touches.

    A component that touches one nodule is all its. Of one that touches several, a voxel belongs
    to the nodule that it lies in, and elsewhere to the nodule whose sphere, of its centre and
    volume, has the nearest surface. Of the nodules' own surfaces that would need distance maps.

    Args:
        truth: ``(H, W, D)``, 0 or a nodule's label.
        components: of the prediction.
        spacing_mm: ``(3,)``.
    """
    places = {label: box for label, box in enumerate(find_objects(truth), start=1) if box}
    nodules_of: dict[int, list[int]] = {}
    for label, box in places.items():
        for component in np.unique(components.labels[box][truth[box] == label]).tolist():
            nodules_of.setdefault(component, []).append(label)
    nodules_of.pop(0, None)
    shares = np.zeros(truth.shape, dtype=np.uint16)
    boxes = dict(places)
    for component, labels in nodules_of.items():
        box = components.boxes[component - 1]
        inside = components.labels[box] == component
        if len(labels) == 1:
            shares[box][inside] = labels[0]
            boxes[labels[0]] = _around(boxes[labels[0]], box)
            continue
        owners = _owners(inside, box, truth, {label: places[label] for label in labels}, spacing_mm)
        shares[box][inside] = owners[inside]
        parts = find_objects(owners)
        for label in labels:
            boxes[label] = _around(boxes[label], _within(box, parts[label - 1]))
    return NoduleShares(shares, boxes, set(nodules_of))


def _owners(
    inside: BoolArray, box: Box, truth: Labels, places: Mapping[int, Box], spacing_mm: FloatArray
) -> npt.NDArray[np.uint16]:
    """The label of the nodule that each voxel of a component belongs to, and 0 outside of it."""
    spheres = [_sphere(truth, label, place, spacing_mm) for label, place in places.items()]
    labels = np.array(list(places), dtype=np.uint16)
    axes_mm = [
        np.arange(part.start, part.stop) * step for part, step in zip(box, spacing_mm, strict=True)
    ]
    owners = np.zeros(inside.shape, dtype=np.uint16)
    # Plane by plane: an untrained network's component may fill the scan.
    for row in np.flatnonzero(inside.any(axis=(1, 2))).tolist():
        off_mm = [
            np.sqrt(
                (axes_mm[0][row] - centre[0]) ** 2
                + ((axes_mm[1] - centre[1]) ** 2)[:, None]
                + (axes_mm[2] - centre[2]) ** 2
            )
            - radius
            for centre, radius in spheres
        ]
        true_labels = truth[box][row]
        nearest = labels[np.argmin(off_mm, axis=0)]
        plane = np.where(np.isin(true_labels, labels), true_labels, nearest)
        owners[row] = np.where(inside[row], plane, 0)
    return owners


def _sphere(
    truth: Labels, label: int, box: Box, spacing_mm: FloatArray
) -> tuple[FloatArray, float]:
    """Centre and radius of a nodule's sphere in mm along the axes."""
    voxels = np.argwhere(truth[box] == label)
    centre = voxels.mean(axis=0) + [part.start for part in box]
    radius_mm = (3 * len(voxels) * spacing_mm.prod() / (4 * np.pi)) ** (1 / 3)
    return centre * spacing_mm, float(radius_mm)


def _around(first: Box, second: Box) -> Box:
    """The smallest box round both."""
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )


def _within(box: Box, part: Box) -> Box:
    """A part of a box, in the coordinates that the box has."""
    return tuple(
        slice(whole.start + own.start, whole.start + own.stop)
        for whole, own in zip(box, part, strict=True)
    )
