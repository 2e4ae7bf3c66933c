from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from metrics.nodule_diameters import nodule_diameters

PLANE = np.diag([0.7, 0.9, 2.0, 1.0])


def naive(mask: np.ndarray, affine: np.ndarray) -> tuple[float, float]:
    """All pairs of edge middles in each slice of the last axis, and all chords across the pair."""
    best = (0.0, 0.0)
    for k in range(mask.shape[2]):
        points = []
        for i, j in np.argwhere(mask[:, :, k]):
            for di, dj in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
                points.append(((i + di) * affine[0, 0], (j + dj) * affine[1, 1]))
        for a, b in itertools.combinations(points, 2):
            length = math.dist(a, b)
            if length > best[0] - 1e-9:
                across = naive_chord(points, ((b[0] - a[0]) / length, (b[1] - a[1]) / length))
                if length > best[0] + 1e-9:
                    best = (length, across)
                else:
                    best = (best[0], max(best[1], across))
    return best


def naive_chord(points: list[tuple[float, float]], unit: tuple[float, float]) -> float:
    """Longest chord of the hull across ``unit``, at the height of each point.

    At a height the hull reaches as far as the segments between any two points do.
    """
    frame = [(p[0] * unit[0] + p[1] * unit[1], p[1] * unit[0] - p[0] * unit[1]) for p in points]
    longest = 0.0
    for height, _ in frame:
        reach = []
        for (h1, s1), (h2, s2) in itertools.combinations(frame, 2):
            if min(h1, h2) - 1e-9 <= height <= max(h1, h2) + 1e-9:
                if abs(h2 - h1) < 1e-9:
                    reach += [s1, s2]
                else:
                    reach.append(s1 + (s2 - s1) * (height - h1) / (h2 - h1))
        longest = max(longest, max(reach) - min(reach))
    return longest


def test_diameters_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        mask = rng.random((4, 4, 2)) > 0.6
        mask[1, 2, 1] = True
        found = nodule_diameters(mask, PLANE)
        assert found[:2] == pytest.approx(naive(mask, PLANE), abs=1e-6)


def test_a_bar_by_hand() -> None:
    mask = np.zeros((9, 9, 5), dtype=bool)
    mask[1:8, 4, 2] = True
    found = nodule_diameters(mask, PLANE)
    assert found.longest_mm == pytest.approx(7 * 0.7)
    assert found.perpendicular_mm == pytest.approx(0.9)
    assert found.mean_mm == pytest.approx((4.9 + 0.9) / 2)
    assert found.slice_index == 2


def test_only_axial_slices_count() -> None:
    mask = np.zeros((5, 5, 20), dtype=bool)
    mask[1:3, 2, :] = True
    assert nodule_diameters(mask, PLANE).longest_mm == pytest.approx(2 * 0.7)


def test_every_orientation_gives_the_same() -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((8, 7, 5)) > 0.6
    expected = nodule_diameters(mask, PLANE)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product([1, -1], repeat=3):
            turned = mask.transpose(order)[tuple(slice(None, None, f) for f in flips)]
            affine = np.eye(4)
            affine[:3, :3] = PLANE[:3, :3][:, order] * flips
            assert nodule_diameters(turned, affine)[:2] == pytest.approx(expected[:2])


def test_an_oblique_scan_keeps_its_lengths() -> None:
    mask = np.random.default_rng(2).random((8, 7, 5)) > 0.6
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    expected = nodule_diameters(mask, PLANE)
    assert nodule_diameters(mask, turn @ PLANE) == pytest.approx(expected)


@pytest.mark.parametrize("diameter_mm", [4.0, 8.0, 20.0])
def test_discs_are_as_much_too_long_as_said(diameter_mm: float) -> None:
    rng = np.random.default_rng(3)
    over = []
    for _ in range(60):
        x, y = (np.arange(-17, 18) + shift for shift in rng.uniform(-0.5, 0.5, 2))
        disc = np.hypot(*np.meshgrid(x, y)) * 0.7 <= diameter_mm / 2
        over.append(nodule_diameters(disc[..., None], np.diag([0.7, 0.7, 1, 1])).longest_mm)
    assert 0.45 < (np.mean(over) - diameter_mm) / 0.7 < 0.85


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="mask must hold a nodule, got an empty mask"):
        nodule_diameters(np.zeros((3, 3, 3), dtype=bool), PLANE)
    with pytest.raises(ValueError, match="three axes of a length above 0"):
        nodule_diameters(np.ones((3, 3, 3), dtype=bool), np.diag([1, 0, 1, 1]))
    with pytest.raises(ValueError, match=r"affine must be \(4, 4\) of finite numbers"):
        nodule_diameters(np.ones((3, 3, 3), dtype=bool), np.full((4, 4), np.nan))
