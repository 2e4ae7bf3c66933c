"""Planes through a volume as radiologists look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nibabel.orientations import io_orientation


@dataclass(frozen=True)
class PlaneView:
    """A plane through a volume whose axes run to the patient's left, back and head (LPS).

    Attributes:
        name: the plane's name.
        normal: axis the plane cuts; ``column`` and ``row`` are the axes shown across and up.
        rows_go_down: whether the row axis runs down the picture.
        letters: patient directions at the left, right, top and bottom of the picture.
    """

    name: str
    normal: int
    column: int
    row: int
    rows_go_down: bool
    letters: str


# Radiological convention: the patient's right on the viewer's left, anterior or superior on top.
PLANE_VIEWS = (
    PlaneView("axial", normal=2, column=0, row=1, rows_go_down=True, letters="RLAP"),
    PlaneView("coronal", normal=1, column=0, row=2, rows_go_down=False, letters="RLSI"),
    PlaneView("sagittal", normal=0, column=1, row=2, rows_go_down=False, letters="APSI"),
)


class LpsPlanes:
    """Turns arrays and positions on one voxel grid to LPS and cuts planes, without copying.

    Axes are swapped and flipped, not resampled; an oblique grid keeps its nearest axes.

    Args:
        affine: 4x4, voxel to RAS mm.
        shape: spatial shape ``(H, W, D)``.
    """

    def __init__(self, affine: np.ndarray, shape: tuple[int, ...]) -> None:
        orientation = io_orientation(affine)
        self.axes = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3)]
        signs = orientation[self.axes, 1]
        self.flipped = tuple(int(axis) for axis in np.flatnonzero(signs != [-1, -1, 1]))
        self.shape = np.array(shape)[self.axes]
        self.spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[self.axes]

    @property
    def size_mm(self) -> np.ndarray:
        return self.shape * self.spacing_mm

    def cut(self, array: np.ndarray, view: PlaneView, point_mm: np.ndarray) -> np.ndarray:
        """The plane ``(rows, columns)`` of an array ``(H, W, D)`` that holds ``point_mm``."""
        turned = np.flip(array.transpose(self.axes), self.flipped)
        index = int(point_mm[view.normal] / self.spacing_mm[view.normal])
        return turned.take(index, axis=view.normal).T

    def millimetres(self, corners_voxel: np.ndarray) -> np.ndarray:
        """Distances ``(..., 3)`` from the LPS volume's first corner.

        ``corners_voxel`` counts from the outer corner of voxel 0, whose centre is at 0.5.
        """
        turned = np.array(corners_voxel, float)[..., self.axes]
        flipped = list(self.flipped)
        turned[..., flipped] = self.shape[flipped] - turned[..., flipped]
        return turned * self.spacing_mm
