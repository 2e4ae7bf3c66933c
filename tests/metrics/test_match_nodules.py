from __future__ import annotations

import itertools

import numpy as np
import pytest

from metrics.match_nodules import match_nodules


def naive_cost(before: np.ndarray, after: np.ndarray, limit_mm: float) -> float:
    """The least cost over all ways to pair, a nodule left alone costing half the limit."""
    alone = limit_mm / 2
    best = (len(before) + len(after)) * alone
    for count in range(1, min(len(before), len(after)) + 1):
        for rows in itertools.combinations(range(len(before)), count):
            for columns in itertools.permutations(range(len(after)), count):
                gaps = [
                    np.linalg.norm(before[r] - after[c]) for r, c in zip(rows, columns, strict=True)
                ]
                if max(gaps) <= limit_mm:
                    best = min(
                        best, float(sum(gaps)) + (len(before) + len(after) - 2 * count) * alone
                    )
    return float(best)


def test_pairs_cost_least() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.uniform(0, 20, (4, 3)), rng.uniform(0, 20, (3, 3))
        found = match_nodules(before, after, max_distance_mm=9)
        cost = sum(found.distances_mm) + 4.5 * (len(found.gone) + len(found.new))
        assert cost == pytest.approx(naive_cost(before, after, 9))
        for (row, column), distance in zip(found.pairs, found.distances_mm, strict=True):
            assert np.linalg.norm(before[row] - after[column]) == pytest.approx(distance)


def test_a_close_pair_is_not_broken_up() -> None:
    before, after = [[0, 0, 0], [9, 0, 0]], [[0.1, 0, 0], [-9.5, 0, 0]]
    found = match_nodules(before, after, max_distance_mm=10)
    assert found.pairs == ((0, 0),)
    assert (found.gone, found.new) == ((1,), (1,))


def test_the_affine_brings_the_first_to_the_second() -> None:
    affine = np.array([[0, -1, 0, 5.0], [1, 0, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]])
    found = match_nodules([[1, 2, 3]], [[3, 1, 1]], max_distance_mm=0.1, affine=affine)
    assert found.pairs == ((0, 0),)
    assert found.distances_mm == pytest.approx((0,))


def test_none_on_either_side() -> None:
    assert match_nodules([], [], max_distance_mm=5) == ((), (), (), ())
    assert match_nodules([], [[1, 2, 3]], max_distance_mm=5) == ((), (), (), (0,))
    assert match_nodules([[1, 2, 3]], [], max_distance_mm=5) == ((), (), (0,), ())


def test_bad_input_is_refused() -> None:
    for limit in (0, np.nan, np.inf):
        with pytest.raises(ValueError, match="max_distance_mm must be finite and above 0"):
            match_nodules([[0, 0, 0]], [[0, 0, 0]], max_distance_mm=limit)
    with pytest.raises(ValueError, match=r"before_mm must be \(N, 3\) of finite numbers"):
        match_nodules([[0, np.nan, 0]], [], max_distance_mm=5)
    with pytest.raises(ValueError, match=r"after_mm must be \(N, 3\) of finite numbers"):
        match_nodules([], [[0, 0]], max_distance_mm=5)
    with pytest.raises(ValueError, match=r"affine must be \(4, 4\) of finite numbers"):
        match_nodules([[0, 0, 0]], [], max_distance_mm=5, affine=np.eye(3))
