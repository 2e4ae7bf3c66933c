"""The risk from which on a scan is recalled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sensitivity_threshold(
    risks: npt.ArrayLike, labels: npt.ArrayLike, target_sensitivity: float
) -> float:
    """The highest threshold at which ``risk >= threshold`` finds the target share of the positives.

    Args:
        risks: ``(scans,)``, finite.
        labels: ``(scans,)`` of 0 and 1.
        target_sensitivity: above 0, at most 1.

    Raises:
        ValueError: a target outside of its range, or no positive.
    """
    if not 0 < target_sensitivity <= 1:
        raise ValueError(
            f"target_sensitivity must be above 0 and at most 1, got {target_sensitivity}"
        )
    positives = np.sort(np.asarray(risks, dtype=np.float64)[np.asarray(labels) == 1])[::-1]
    if not len(positives):
        raise ValueError(f"a threshold needs a positive, got 0 in {np.size(labels)} scans")
    sensitivity = np.arange(1, len(positives) + 1) / len(positives)
    return float(positives[np.argmax(sensitivity >= target_sensitivity)])
