"""How well LIDC-IDRI's readers agree on a nodule: the bar that a segmentation is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cohorts.lidc_masks import reader_masks
from cohorts.lidc_nodules import LidcNodule


class ReaderAgreement(NamedTuple):
    """One value per nodule, arrays ``(nodules,)``.

    Attributes:
        patient_ids: whose nodule it is.
        diameter_mm: of the sphere with the volume of the voxels that half of the readers chose.
        dice: mean over the pairs of readers.
        volume_spread: standard deviation of the readers' volumes (n - 1) over their mean.
    """

    patient_ids: list[str]
    diameter_mm: NDArray[np.float64]
    dice: NDArray[np.float64]
    volume_spread: NDArray[np.float64]


def reader_agreement(
    nodules: Sequence[LidcNodule], *, readers: int = 4, outline_inside: bool = False
) -> ReaderAgreement:
    """Agreement on each nodule that ``readers`` of the readers outlined.

    Args:
        nodules: of :func:`cohorts.read_lidc_nodules`.
        readers: 2 or more.
        outline_inside: see :func:`cohorts.reader_masks`.

    Raises:
        ValueError: fewer than 2 readers.
    """
    if readers < 2:
        raise ValueError(f"readers must be 2 or more to agree, got {readers}")
    chosen = [nodule for nodule in nodules if len(nodule.readings) == readers]
    rows = np.array([_agreement(nodule, outline_inside) for nodule in chosen]).reshape(-1, 3)
    return ReaderAgreement([nodule.patient_id for nodule in chosen], *rows.T)


def _agreement(nodule: LidcNodule, outline_inside: bool) -> tuple[float, float, float]:
    """Diameter in mm, Dice and spread of volume."""
    masks = reader_masks(nodule, outline_inside=outline_inside)
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    overlaps = (flat @ flat.T).astype(np.float64)
    sizes = np.diag(overlaps)
    first, second = np.triu_indices(len(masks), 1)
    dice = 2 * overlaps[first, second] / (sizes[first] + sizes[second])
    agreed = np.count_nonzero(2 * flat.sum(axis=0) >= len(masks))
    # Readers who barely overlap leave no majority: then any reader's voxel counts.
    voxels = agreed or np.count_nonzero(flat.any(axis=0))
    diameter_mm = (6 * voxels * np.prod(nodule.spacing_mm) / np.pi) ** (1 / 3)
    return float(diameter_mm), float(dice.mean()), float(sizes.std(ddof=1) / sizes.mean())
