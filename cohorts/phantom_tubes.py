"""Tubes of changing radius, of which vessels, airways and bones are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cohorts.phantom_grid import Array, PhantomGrid


@dataclass(frozen=True)
class Tubes:
    """Round-ended cones: ``(N, 3)`` starts and ends in RAS mm, ``(N,)`` radii at either end."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    start_radii: NDArray[np.float64]
    end_radii: NDArray[np.float64]

    def chosen(self, keep: NDArray[np.bool_]) -> Tubes:
        """Some of the tubes."""
        return Tubes(
            self.starts[keep], self.ends[keep], self.start_radii[keep], self.end_radii[keep]
        )

    def grown(self, by_mm: float) -> Tubes:
        """Wider (or, below zero, narrower) tubes; those that vanish are left out."""
        kept = self.chosen(np.minimum(self.start_radii, self.end_radii) + by_mm > 0.2)
        return Tubes(kept.starts, kept.ends, kept.start_radii + by_mm, kept.end_radii + by_mm)


def polyline(
    points: NDArray[np.float64] | list[tuple[float, float, float]],
    radii: NDArray[np.float64] | list[float] | float,
) -> Tubes:
    """Tubes along consecutive points."""
    line = np.asarray(points, dtype=float)
    radius = np.broadcast_to(np.asarray(radii, dtype=float), len(line))
    return Tubes(line[:-1], line[1:], radius[:-1], radius[1:])


def join_tubes(parts: list[Tubes]) -> Tubes:
    """All tubes of several sets."""
    return Tubes(
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.ends for part in parts]),
        np.concatenate([part.start_radii for part in parts]),
        np.concatenate([part.end_radii for part in parts]),
    )


def draw_tubes(coverage: Array, grid: PhantomGrid, tubes: Tubes) -> None:
    """Raise ``coverage`` (z, y, x) to the share of each voxel that the tubes fill."""
    width = sum(grid.spacing_mm) / 3
    thin = np.maximum(tubes.start_radii, tubes.end_radii) < width / 2
    _scatter(coverage, grid, tubes.chosen(thin))
    thick = tubes.chosen(~thin)
    reach = np.maximum(thick.start_radii, thick.end_radii)[:, None] + width / 2
    bounds = grid.bounds(
        np.minimum(thick.starts, thick.ends) - reach, np.maximum(thick.starts, thick.ends) + reach
    )
    starts, steps = thick.starts.astype(np.float32), (thick.ends - thick.starts).astype(np.float32)
    # A round edge softened over a width w holds pi (r^2 + w^2 / 12); the radius makes up for it.
    radii, end_radii = (
        np.sqrt(np.maximum(np.square(ends) - width**2 / 12, 0)).astype(np.float32)
        for ends in (thick.start_radii, thick.end_radii)
    )
    widening = end_radii - radii
    squared_lengths = np.maximum(np.square(steps).sum(axis=1), 1e-6)
    for index in np.flatnonzero((bounds[..., 1] > bounds[..., 0]).all(axis=1)):
        ranges = bounds[index].tolist()
        box = slice(*ranges[0]), slice(*ranges[1]), slice(*ranges[2])
        x, y, z = (axis - start for axis, start in zip(grid.axes(box), starts[index], strict=True))
        step, squared_length = steps[index], squared_lengths[index]
        along = x * step[0] + (y * step[1] + z * step[2])
        share = np.clip(along * (1 / squared_length), 0, 1)
        squared = x * x + (y * y + z * z) + share * (share * squared_length - 2 * along)
        radius = radii[index] + share * widening[index]
        filled = (radius - np.sqrt(np.maximum(squared, 0))) * np.float32(1 / width) + 0.5
        patch = coverage[box]
        np.maximum(patch, np.clip(filled, 0, 1), out=patch)


def _scatter(coverage: Array, grid: PhantomGrid, tubes: Tubes) -> None:
    """Share the volume of tubes thinner than a voxel among the voxels around their axes."""
    lengths = np.linalg.norm(tubes.ends - tubes.starts, axis=1)
    counts = np.maximum(np.ceil(2 * lengths / min(grid.spacing_mm)), 1).astype(np.int64)
    tube = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(tube)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = ((rank + 0.5) / counts[tube])[:, None]
    points = tubes.starts[tube] + share * (tubes.ends - tubes.starts)[tube]
    radii = tubes.start_radii[tube] + share[:, 0] * (tubes.end_radii - tubes.start_radii)[tube]
    volume = np.pi * np.square(radii) * (lengths / counts)[tube] / np.prod(grid.spacing_mm)
    origin = np.array([grid.x_mm[0], grid.y_mm[0], grid.z_mm[0]])
    step = np.array([-grid.spacing_mm[0], -grid.spacing_mm[1], grid.spacing_mm[2]])
    place = (points - origin) / step
    size = np.array(grid.shape[::-1])
    first = np.floor(place).astype(np.int64)
    rest = place - first
    for corner in np.ndindex(2, 2, 2):
        voxel = first + corner
        inside = ((voxel >= 0) & (voxel < size)).all(axis=1)
        weight = np.where(corner, rest, 1 - rest).prod(axis=1) * volume
        x, y, z = voxel[inside].T
        np.add.at(coverage, (z, y, x), weight[inside].astype(np.float32))
    np.minimum(coverage, 1, out=coverage)
