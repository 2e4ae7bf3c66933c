"""The risk from which on a scan is recalled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sensitivity_threshold(
    risks: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    target_sensitivity: float,
) -> float:
    """The highest threshold at which ``risk >= threshold`` finds the target share of the positives.

    Args:
        risks: ``(scans,)``, finite.
        labels: ``(scans,)`` of 0 and 1.
        weights: ``(scans,)``, how much each counts, above 0.
        target_sensitivity: above 0, at most 1.

    Raises:
        ValueError: a target outside of its range, or no positive.
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(
            f"target_sensitivity must be above 0 and at most 1, got {target_sensitivity}"
        )
    is_positive = np.asarray(labels) == 1
    if not is_positive.any():
        raise ValueError(f"a threshold needs a positive, got 0 in {np.size(labels)} scans")
    risk = np.asarray(risks, dtype=np.float64)[is_positive]
    order = np.argsort(risk)[::-1]
    found = np.cumsum(np.asarray(weights, dtype=np.float64)[is_positive][order])
    return float(risk[order][np.argmax(found / found[-1] >= target_sensitivity)])
