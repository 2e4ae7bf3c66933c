"""The voxel through which a nodule is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def middle_voxel(
    labels: npt.NDArray[Any], box: tuple[slice, ...], label: int
) -> npt.NDArray[np.int_]:
    """The voxel of a nodule that lies nearest to the middle of its voxels.

    The middle itself may lie outside a bent nodule.

    Args:
        labels: ``(*spatial)``.
        box: slices that hold the nodule.
        label: its value in ``labels``.

    Raises:
        ValueError: no such voxel in the box.
    """
    voxels = np.argwhere(labels[box] == label)
    if not len(voxels):
        raise ValueError(f"the box must hold a voxel of the label, got none of {label}")
    offsets = voxels - voxels.mean(axis=0)
    nearest: npt.NDArray[np.int_] = voxels[(offsets**2).sum(axis=1).argmin()]
    return nearest + [part.start for part in box]
