"""How well one attention map can serve several lesions at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

GAP_NATS = 1e-6
_MOST_STEPS = 20_000


def lesion_floor(lesions: torch.Tensor) -> float:
    """The smallest mean of ``-log sum(alpha * A_k)`` that weights summing to one can reach.

    It is log K for lesions apart, each of which then gets 1/K; less where lesions share cells, and
    0 where all share one.

    Args:
        lesions: bool ``(K, M)``, the cells of K lesions, none of them empty.

    Returns:
        Nats, at most 1e-6 above the exact value; 0 for no lesion.
    """
    if len(lesions) < 2:
        return 0.0
    # Weight is worth the same in all cells that belong to the same lesions.
    patterns = torch.unique(lesions.T, dim=0).tolist()
    return _floor(frozenset(tuple(pattern) for pattern in patterns))


@lru_cache(maxsize=4096)
def _floor(patterns: frozenset[tuple[bool, ...]]) -> float:
    """Maximises the concave mean log mass by expectation maximisation over the patterns.

    With ``gain_p = mean_k M_kp / mass_k``, by Jensen no weights are better than the present ones
    by more than ``log max gain``.
    """
    table = np.array([p for p in patterns if not _is_dominated(p, patterns)], float).T
    weights = np.full(table.shape[1], 1 / table.shape[1])
    for _ in range(_MOST_STEPS):
        gain = (table / (table @ weights)[:, None]).mean(axis=0)
        if np.log(gain.max()) <= GAP_NATS:
            break
        weights *= gain
    return float(-np.log(table @ weights).mean())


def _is_dominated(pattern: tuple[bool, ...], patterns: frozenset[tuple[bool, ...]]) -> bool:
    """Whether another pattern has all its lesions and more, so that it is never worth weight."""
    return any(
        other != pattern and all(b for a, b in zip(pattern, other, strict=True) if a)
        for other in patterns
    )
