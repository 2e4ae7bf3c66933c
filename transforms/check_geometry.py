"""Whether two volumes lie on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from transforms.scan_error import ScanError, scan_name

TOLERANCE_VOXEL = 0.05


def check_geometry(volume: MetaTensor, reference: MetaTensor) -> None:
    """Checks that a mask ``(C, *spatial)`` lies on the grid of its image ``(C, *spatial)``.

    Raises:
        ScanError: another spatial shape, or a corner voxel placed more than 0.05 voxel elsewhere.
    """
    shape, wanted = tuple(volume.shape[1:]), tuple(reference.shape[1:])
    if shape != wanted:
        raise ScanError(
            f"{scan_name(volume)}: the shape must be that of {scan_name(reference)}, "
            f"got {shape} and {wanted}"
        )
    rank = len(shape)
    corners = torch.cartesian_prod(*(torch.tensor([0.0, size - 1.0]) for size in shape))
    homogeneous = torch.zeros(4, len(corners), dtype=torch.float64)
    homogeneous[:rank] = corners.T.double()
    homogeneous[3] = 1
    shift_mm = ((volume.affine.double() - reference.affine.double()) @ homogeneous)[:3]
    spacing_mm = reference.affine.double()[:3, :rank].norm(dim=0).min()
    off_mm = float(shift_mm.norm(dim=0).max())
    # Written so that a NaN fails too.
    if not off_mm <= TOLERANCE_VOXEL * float(spacing_mm):
        raise ScanError(
            f"{scan_name(volume)}: the affine must be that of {scan_name(reference)}, "
            f"got corners {off_mm:.3f} mm apart"
        )


class CheckGeometryd(MapTransform):
    """Dictionary form of :func:`check_geometry`: each key against ``reference_key``."""

    def __init__(
        self, keys: KeysCollection, reference_key: str, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference_key = reference_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        for key in self.key_iterator(data):
            check_geometry(data[key], data[self.reference_key])
        return dict(data)
