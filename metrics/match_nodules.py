"""Which nodule of one scan is which of the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from metrics.bootstrap_interval import FloatArray


class MatchedNodules(NamedTuple):
    """Attributes:
    pairs: (index before, index after) of each nodule seen twice, in the order of the first scan.
    distances_mm: between the two of each pair.
    gone: indices of nodules seen before only.
    new: indices of nodules seen after only.
    """

    pairs: tuple[tuple[int, int], ...]
    distances_mm: tuple[float, ...]
    gone: tuple[int, ...]
    new: tuple[int, ...]


def match_nodules(
    before_mm: npt.ArrayLike,
    after_mm: npt.ArrayLike,
    *,
    max_distance_mm: float,
    affine: npt.ArrayLike | None = None,
) -> MatchedNodules:
    """Pair nodules of two time points by position, with the least sum of distances.

    A nodule left alone costs as much as half a pair at the greatest distance, so that a close pair
    is never broken up to bring two far ones within reach.

    Args:
        before_mm: centres ``(N, 3)`` at the first time point, in RAS mm.
        after_mm: centres ``(M, 3)`` at the second.
        max_distance_mm: the farthest that the two of a pair may lie from each other.
        affine: ``(4, 4)``, brings positions before to those after; None where they agree already.

    Raises:
        ValueError: other shapes, positions or a distance that are not finite, or no distance.
    """
    before, after = _positions("before_mm", before_mm), _positions("after_mm", after_mm)
    if not (np.isfinite(max_distance_mm) and max_distance_mm > 0):
        raise ValueError(f"max_distance_mm must be finite and above 0, got {max_distance_mm}")
    if affine is not None:
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ValueError(f"affine must be (4, 4) of finite numbers, got {matrix.tolist()}")
        before = before @ matrix[:3, :3].T + matrix[:3, 3]
    distances = cdist(before, after)
    rows, columns = linear_sum_assignment(np.minimum(distances, max_distance_mm))
    pairs = tuple(
        (row, column)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if distances[row, column] <= max_distance_mm
    )
    return MatchedNodules(
        pairs,
        tuple(float(distances[pair]) for pair in pairs),
        tuple(sorted(set(range(len(before))) - {row for row, _ in pairs})),
        tuple(sorted(set(range(len(after))) - {column for _, column in pairs})),
    )


def _positions(name: str, positions_mm: npt.ArrayLike) -> FloatArray:
    positions = np.asarray(positions_mm, dtype=np.float64)
    if positions.size == 0:
        return np.zeros((0, 3))
    if positions.ndim != 2 or positions.shape[1] != 3 or not np.isfinite(positions).all():
        raise ValueError(
            f"{name} must be (N, 3) of finite numbers, got shape {positions.shape} "
            f"with {np.count_nonzero(~np.isfinite(positions))} that are not finite"
        )
    return positions
