"""What an operating point would mean for a screening round."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import BoolArray

SCREENS = 1000


class ScreeningTable(NamedTuple):
    """Expected counts per 1,000 screens.

    Attributes:
        prevalence: share of the screens with cancer.
        recalled: screens at or above the threshold, ``found + false_alarms``.
        found: cancers recalled.
        missed: cancers not recalled.
        false_alarms: screens without cancer that are recalled.
    """

    prevalence: float
    recalled: float
    found: float
    missed: float
    false_alarms: float


def screening_table(
    recalled: npt.ArrayLike,
    cancer: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    prevalence: float | None = None,
) -> ScreeningTable:
    """Counts per 1,000 screens, at the cohort's own prevalence or re-weighted to another.

    Re-weighting keeps sensitivity and specificity, which holds only where the cancers and the
    healthy are like those of the cohort.

    Args:
        recalled: ``(scans,)`` of bool.
        cancer: ``(scans,)`` of bool.
        weights: ``(scans,)``, how much each counts, above 0.
        prevalence: share of cancers from 0 to 1; None keeps the cohort's.

    Raises:
        ValueError: no scan, a prevalence outside of its range, or one that needs scans of a class
            that the cohort lacks.
    """
    is_recalled, is_cancer = np.asarray(recalled, dtype=bool), np.asarray(cancer, dtype=bool)
    weight = np.asarray(weights, dtype=np.float64)
    shapes = is_recalled.shape, is_cancer.shape, weight.shape
    if is_recalled.ndim != 1 or len(set(shapes)) > 1 or not len(is_cancer):
        raise ValueError(
            "recalled, cancer and weights must be (scans,) of at least one, "
            f"got {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    share = _share(is_cancer, weight) if prevalence is None else prevalence
    if not 0 <= share <= 1:
        raise ValueError(f"prevalence must be from 0 to 1, got {share}")
    for name, portion, members in (
        ("positives", share, is_cancer),
        ("negatives", 1 - share, ~is_cancer),
    ):
        if portion > 0 and not members.any():
            raise ValueError(
                f"a screening table of prevalence {share:g} needs {name}, "
                f"got 0 in {len(is_cancer)} scans"
            )
    cancers, healthy = SCREENS * share, SCREENS * (1 - share)
    found = cancers * _share(is_recalled[is_cancer], weight[is_cancer])
    false_alarms = healthy * _share(is_recalled[~is_cancer], weight[~is_cancer])
    return ScreeningTable(share, found + false_alarms, found, cancers - found, false_alarms)


def _share(members: BoolArray, weights: FloatArray) -> float:
    return float(np.average(members, weights=weights)) if len(members) else 0.0
