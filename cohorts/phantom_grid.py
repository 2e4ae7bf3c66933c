"""A phantom's voxel grid and its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Volumes and the coordinates they are painted from are float32; placing works in float64.
Array = NDArray[np.floating]


@dataclass(frozen=True)
class PhantomGrid:
    """Voxel centres in RAS mm; volumes on it are indexed slice, row, column (z, y, x).

    Columns run to the patient's left and rows to the back, as in a DICOM axial scan, so ``x_mm``
    and ``y_mm`` fall while ``z_mm`` rises.
    """

    x_mm: Array
    y_mm: Array
    z_mm: Array
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.z_mm), len(self.y_mm), len(self.x_mm)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel (column, row, slice) to RAS mm."""
        affine = np.diag([-self.spacing_mm[0], -self.spacing_mm[1], self.spacing_mm[2], 1.0])
        affine[:3, 3] = self.x_mm[0], self.y_mm[0], self.z_mm[0]
        return affine

    def scaled(self, factor: float) -> PhantomGrid:
        """The same voxels in units of ``1 / factor`` mm."""
        return PhantomGrid(
            (self.x_mm * factor).astype(np.float32),
            (self.y_mm * factor).astype(np.float32),
            (self.z_mm * factor).astype(np.float32),
            (
                self.spacing_mm[0] * factor,
                self.spacing_mm[1] * factor,
                self.spacing_mm[2] * factor,
            ),
        )

    def bounds(
        self, lows_mm: NDArray[np.floating], highs_mm: NDArray[np.floating]
    ) -> NDArray[np.int64]:
        """First and last + 1 slice, row and column, ``(N, 3, 2)``, of voxels in ``(N, 3)`` boxes.

        A voxel is in a box when its centre is; a box outside the grid is empty.
        """
        origin = np.array([self.x_mm[0], self.y_mm[0], self.z_mm[0]])
        step = np.array([-self.spacing_mm[0], -self.spacing_mm[1], self.spacing_mm[2]])
        ends = np.sort((np.stack([lows_mm, highs_mm], axis=-1) - origin[:, None]) / step[:, None])
        first = np.ceil(ends[..., 0])
        bounds = np.stack([first, np.maximum(np.floor(ends[..., 1]) + 1, first)], axis=-1)
        size = np.array(self.shape[::-1])
        clipped: NDArray[np.int64] = np.clip(bounds, 0, size[:, None]).astype(np.int64)
        return clipped[:, ::-1]

    def box(
        self, low_mm: NDArray[np.floating], high_mm: NDArray[np.floating]
    ) -> tuple[slice, slice, slice]:
        """Slices, rows and columns whose centres lie in the box of two RAS corners."""
        z, y, x = self.bounds(low_mm[None], high_mm[None])[0].tolist()
        return slice(*z), slice(*y), slice(*x)

    def axes(self, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """x, y and z of a box's voxels, shaped to broadcast to (z, y, x)."""
        return (
            self.x_mm[box[2]][None, None, :],
            self.y_mm[box[1]][None, :, None],
            self.z_mm[box[0]][:, None, None],
        )


def phantom_grid(
    size: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    centre_mm: tuple[float, float, float],
) -> PhantomGrid:
    """Grid of ``size`` columns, rows and slices around an RAS point."""
    along = [
        centre + sign * spacing * (np.arange(count) - (count - 1) / 2)
        for centre, sign, spacing, count in zip(
            centre_mm, (-1, -1, 1), spacing_mm, size, strict=True
        )
    ]
    x_mm, y_mm, z_mm = (axis.astype(np.float32) for axis in along)
    return PhantomGrid(x_mm, y_mm, z_mm, spacing_mm)
