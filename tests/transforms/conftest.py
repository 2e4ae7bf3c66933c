from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from monai.data import MetaTensor


@dataclass(frozen=True)
class Chest:
    """A drawn chest in RAS axes at 4 mm: arrays ``(X, Y, Z)``, low X the patient's left."""

    hu: np.ndarray
    lungs: np.ndarray
    airway: np.ndarray
    gas: np.ndarray
    nodule: np.ndarray
    affine: np.ndarray

    def ct(self) -> MetaTensor:
        return volume(self.hu, self.affine)


def volume(array: np.ndarray, affine: np.ndarray) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(array))[None]
    return MetaTensor(values, torch.as_tensor(affine, dtype=torch.float64))


@pytest.fixture
def chest() -> Chest:
    """Two lungs that touch at the front, trachea, main bronchi, stomach gas, a pleural nodule."""
    shape = (96, 72, 64)
    x, y, z = (axis * 4.0 for axis in np.indices(shape, dtype=float))
    x -= 4 * 47.5
    y -= 4 * 35.5

    def ellipsoid(centre: tuple, radii: tuple) -> np.ndarray:
        offsets = zip((x, y, z), centre, radii, strict=True)
        return sum(((axis - c) / r) ** 2 for axis, c, r in offsets) <= 1

    rng = np.random.default_rng(7)
    hu = np.full(shape, -1000.0)
    hu[(x / 170) ** 2 + (y / 120) ** 2 <= 1] = 40
    left = ellipsoid((-72, 5, 130), (68, 85, 100)) & (z > 50)
    right = ellipsoid((76, 5, 130), (70, 85, 100)) & (z > 60)
    bridge = (abs(x) < 12) & (abs(y - 50) < 6) & (abs(z - 140) < 12)
    left |= bridge & (x < 0)
    right |= bridge & (x > 0)
    lungs = np.where(left, 1, np.where(right, 2, 0)).astype(np.uint8)
    hu[lungs > 0] = rng.normal(-850, 70, int((lungs > 0).sum()))
    airway = (x**2 + (y + 20) ** 2 <= 100) & (z > 150)
    gas = ellipsoid((-60, 20, 16), (50, 42, 26))
    hu[airway | gas] = rng.normal(-1000, 10, int((airway | gas).sum()))
    nodule = ellipsoid((132, 40, 130), (12, 12, 12)) & right
    hu[nodule] = 30
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -190, -142, -300
    return Chest(hu.astype(np.float32), lungs, airway & (lungs == 0), gas, nodule, affine)
