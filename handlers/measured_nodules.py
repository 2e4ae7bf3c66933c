"""A segmenter's nodules as numbers for a file."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd

from metrics import NoduleInstances, measured_instances, nodule_instances, size_class
from metrics.nodule_diameters import nodule_diameters
from transforms.square_affine import square_affine

DECIMALS = 3
# A network that marks more, or larger ones, has segmented noise: to measure it would take minutes.
MOST_MEASURED = 100
LARGEST_MM3 = 150.0**3  # of the box round a component
# A 2D image is given this thickness: the circle of 3 mm is then as large as the sphere of 3 mm,
# under which a component is a speck.
FLAT_MM = 2.0

NODULE_KEYS = {
    "number": "from 1, by falling volume; the nodule's label in the mask",
    "centre_lps_mm": "the middle of its voxels, mm towards the patient's left, back and head, as "
    "in DICOM",
    "centre_ras_mm": "the same, mm towards the patient's right, front and head, as in NIfTI",
    "box_voxel": "corners along the axes of the scan's own array, all low ends and then all high "
    "ends; voxel i covers i to i + 1, its centre is at i + 0.5",
    "diameter_mm": "of the sphere with voxel_count_mm3; of a 2D image the circle with its area",
    "size_class": "by diameter_mm; a diameter on the limit of two is in the larger",
    "voxel_count_mm3": "number of voxels times the volume of one; null in 2D",
    "weighted_mm3": "partial-volume-weighted volume, from the HU in and around the mask; null in "
    "2D, and where they do not tell the nodule from its surroundings",
    "nodule_hu": "estimated density of the nodule in HU, null as weighted_mm3 is",
    "lung_hu": "estimated density of the lung around it in HU, null as weighted_mm3 is",
    "longest_mm": "longest diameter in any axial slice (RECIST 1.1)",
    "perpendicular_mm": "longest diameter at a right angle to it in the same slice",
    "mean_diameter_mm": "mean of longest_mm and perpendicular_mm",
    "mass_mg": "of the mask's voxels, (HU + 1000) / 1000 mg/mm3; null in 2D",
    "picture": "three planes through the nodule, or null",
}


class MeasuredNodules(NamedTuple):
    """Attributes:
    labels: ``(*spatial)``, 0 outside and 1, 2 ... in the nodules, the largest first; uint8, or
        uint16 where there are more than 255.
    boxes: the smallest box of slices round each.
    numbers: of those measured the keys of ``NODULE_KEYS`` less ``picture``: the largest
        ``MOST_MEASURED`` whose box has no more than ``LARGEST_MM3``.
    """

    labels: npt.NDArray[Any]
    boxes: list[tuple[slice, ...]]
    numbers: list[dict[str, Any]]


def measured_nodules(scan: MetaTensor, mask: npt.NDArray[np.uint8]) -> MeasuredNodules:
    """The nodules of a mask on its scan's grid, one by one.

    In 2D they have place and diameters, but neither volume nor density.

    Args:
        scan: HU ``(1, H, W, D)``, or ``(1, H, W)`` of whatever unit, with its affine.
        mask: ``(*spatial)`` of 0 and 1.

    Raises:
        ValueError: a scan in 3D whose values are not HU.
    """
    rank = mask.ndim
    affine = to_affine_nd(3, square_affine(scan.affine, rank).numpy())
    if rank == 2:
        affine[2, 2] = FLAT_MM
        mask = mask[..., None]
    found = nodule_instances(mask, np.linalg.norm(affine[:3, :3], axis=0))
    del mask
    boxes = [box[:rank] for box in found.boxes]
    kind = np.uint8 if len(boxes) <= 255 else np.uint16
    # The first axis runs fastest, as in a NIfTI file, which is written twice as fast for it.
    labels = np.zeros(scan.shape[1:], kind, order="F")
    for box in boxes:
        labels[box] = found.labels[box].reshape(labels[box].shape)
    # Frees the first labels, which take twice as much: those below are as good.
    found = NoduleInstances(labels if rank == 3 else labels[..., None], found.boxes)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    measured = [
        number
        for number, box in enumerate(found.boxes, start=1)
        if math.prod(part.stop - part.start for part in box) * voxel_mm3 <= LARGEST_MM3
    ][:MOST_MEASURED]
    measure = _measured if rank == 3 else _measured_2d
    return MeasuredNodules(labels, boxes, measure(scan, found, measured, affine))


def _measured(
    scan: MetaTensor, found: NoduleInstances, measured: list[int], affine: np.ndarray
) -> list[dict[str, Any]]:
    image_hu = scan.detach().cpu().numpy()[0]
    nodules = measured_instances(image_hu, found, affine, numbers=measured)
    numbers = []
    for number, nodule in zip(measured, nodules, strict=True):
        own = nodule._asdict()
        centre_mm = own.pop("centre_mm")
        diameter_mm = (6 * own["voxel_count_mm3"] / math.pi) ** (1 / 3)
        numbers.append(_numbers(number, centre_mm, found.boxes[number - 1], diameter_mm, own))
    return numbers


def _measured_2d(
    _image: MetaTensor, found: NoduleInstances, measured: list[int], affine: np.ndarray
) -> list[dict[str, Any]]:
    numbers = []
    for number in measured:
        box = found.boxes[number - 1]
        inside = found.labels[box] == number
        centre = np.argwhere(inside).mean(axis=0)[:2] + [part.start for part in box[:2]]
        centre_mm = affine[:2, :2] @ centre + affine[:2, 3]
        area_mm2 = int(inside.sum()) * abs(np.linalg.det(affine[:2, :2]))
        diameter_mm = 2 * math.sqrt(area_mm2 / math.pi)
        longest = nodule_diameters(inside, affine)
        own = dict.fromkeys(("voxel_count_mm3", "weighted_mm3", "nodule_hu", "lung_hu", "mass_mg"))
        own |= {
            "longest_mm": longest.longest_mm,
            "perpendicular_mm": longest.perpendicular_mm,
            "mean_diameter_mm": longest.mean_mm,
        }
        numbers.append(_numbers(number, centre_mm, box[:2], diameter_mm, own))
    return numbers


def _numbers(
    number: int,
    centre_mm: npt.ArrayLike,
    box: tuple[slice, ...],
    diameter_mm: float,
    own: dict[str, float | None],
) -> dict[str, Any]:
    ras = np.asarray(centre_mm, float)
    lps = ras * [-1, -1, 1][: len(ras)]
    measured = {key: None if one is None else round(one, DECIMALS) for key, one in own.items()}
    numbers = {
        "number": number,
        "centre_lps_mm": (lps.round(DECIMALS) + 0.0).tolist(),  # no -0.0
        "centre_ras_mm": (ras.round(DECIMALS) + 0.0).tolist(),
        "box_voxel": [part.start for part in box] + [part.stop for part in box],
        "diameter_mm": round(diameter_mm, DECIMALS),
        "size_class": size_class(diameter_mm),
        **measured,
    }
    return {key: numbers[key] for key in NODULE_KEYS if key != "picture"}
