from __future__ import annotations

import numpy as np
import pytest

from cohorts.phantom_grid import phantom_grid
from cohorts.phantom_tubes import Tubes, draw_tubes, polyline


@pytest.mark.parametrize("radius_mm", [0.4, 0.9, 2.0, 4.0])
@pytest.mark.parametrize("step_mm", [0.7, 1.5, 3.0])
def test_a_tube_keeps_its_volume_at_any_spacing(radius_mm: float, step_mm: float) -> None:
    count = round(90 / step_mm)
    grid = phantom_grid((count, count, count), (step_mm,) * 3, (0.3, -0.2, 0.1))
    coverage = np.zeros(grid.shape, dtype=np.float32)
    start, end = np.array([-20.0, -15, -25]), np.array([22.0, 12, 24])
    draw_tubes(coverage, grid, polyline(np.stack([start, end]), radius_mm))
    length = np.linalg.norm(end - start)
    cylinder = np.pi * radius_mm**2 * length
    # Round ends add up to one ball.
    ends = 4 / 3 * np.pi * radius_mm**3
    volume = coverage.sum(dtype=np.float64) * step_mm**3
    assert 0.95 * cylinder < volume < 1.05 * (cylinder + ends)
    assert coverage.max() <= 1


def test_a_thick_tube_fills_what_a_naive_loop_fills() -> None:
    grid = phantom_grid((20, 22, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    start, end = np.array([-3.0, 2, -6]), np.array([4.0, -3, 5])
    coverage = np.zeros(grid.shape, dtype=np.float32)
    draw_tubes(coverage, grid, Tubes(start[None], end[None], np.array([3.0]), np.array([2.0])))
    for z, y, x in np.ndindex(grid.shape):
        point = np.array([grid.x_mm[x], grid.y_mm[y], grid.z_mm[z]])
        share = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        radius = (3**2 - 1 / 12) ** 0.5 * (1 - share) + (2**2 - 1 / 12) ** 0.5 * share
        depth = radius - np.linalg.norm(point - start - share * (end - start))
        assert coverage[z, y, x] == pytest.approx(np.clip(depth + 0.5, 0, 1), abs=1e-4)


def test_tubes_outside_the_grid_leave_it_empty() -> None:
    grid = phantom_grid((8, 8, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    coverage = np.zeros(grid.shape, dtype=np.float32)
    for radius_mm in (0.2, 3.0):
        draw_tubes(coverage, grid, polyline([(40, 40, 40), (60, 40, 40)], radius_mm))
    assert not coverage.any()
