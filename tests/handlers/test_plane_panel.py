from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path

from handlers.plane_panel import FOUND_LINE, TRUE_LINE, outline_mask

PIXEL_MM = (2.0, 0.5)


def _outlines(plane: np.ndarray, line=TRUE_LINE) -> list[np.ndarray]:
    """Corners ``(N, 2)`` of each closed outline, across and down in mm."""
    axes: Axes = Figure().subplots()
    outline_mask(axes, plane, PIXEL_MM, line)
    return [
        np.asarray(polygon)
        for collection in axes.collections
        for path in collection.get_paths()
        for polygon in path.to_polygons(closed_only=False)
    ]


def _area_mm2(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


@pytest.mark.parametrize("place", [(0, 0), (3, 5), (7, 9)])
def test_one_pixel_is_outlined_along_its_edges(place):
    plane = np.zeros((8, 10), np.uint8)
    plane[place] = 7
    (corners,) = _outlines(plane)
    (row, column), (height, width) = place, PIXEL_MM
    ends = [column * width, row * height], [(column + 1) * width, (row + 1) * height]
    np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], ends, atol=1e-9)
    assert _area_mm2(corners) == pytest.approx(height * width, rel=0.01)


def test_outlines_enclose_the_pixels_of_any_mask():
    plane = np.random.default_rng(0).random((9, 11)) > 0.8
    plane[2:6, 3:8] = True
    plane[3:5, 4:6] = False  # a hole has an outline too
    filled = np.zeros(plane.shape, bool)
    rows, columns = (np.indices(plane.shape) + 0.5) * np.reshape(PIXEL_MM, (2, 1, 1))
    points = np.column_stack([columns.ravel(), rows.ravel()])
    for corners in _outlines(plane):
        filled ^= Path(corners).contains_points(points).reshape(plane.shape)
    np.testing.assert_array_equal(filled, plane)


def test_nothing_has_no_outline():
    assert _outlines(np.zeros((4, 4), bool)) == []


def test_what_was_found_is_dashed_and_of_another_colour():
    dashes: list[Any] = []
    for line in (TRUE_LINE, FOUND_LINE):
        axes: Axes = Figure().subplots()
        outline_mask(axes, np.eye(4), (1.0, 1.0), line)
        collection: Any = axes.collections[0]
        dashes.append(collection.get_linestyle()[0][1])
    assert dashes[0] is None and len(dashes[1]) > 1
    assert TRUE_LINE["edgecolor"] != FOUND_LINE["edgecolor"]
