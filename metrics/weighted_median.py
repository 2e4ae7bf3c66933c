"""Median of a resampled cohort."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray


def weighted_median(values: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Median of ``values`` ``(scans,)`` under each row of ``weights`` ``(resamples, scans)``.

    Where half of the weight lies on either side it is the middle between both neighbours, so with
    counts for weights it is the ordinary median of the repeated values. NaN where a row has no
    weight at all.
    """
    value = np.asarray(values, dtype=np.float64)
    if value.ndim != 1 or weights.ndim != 2 or weights.shape[1] != len(value):
        raise ValueError(
            "values and weights must be (scans,) and (resamples, scans), "
            f"got {value.shape} and {weights.shape}"
        )
    if not len(value):
        return np.full(len(weights), np.nan)
    order = np.argsort(value)
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower = value[order][np.argmax(reached >= half, axis=1)]
    upper = value[order][np.argmax(reached > half, axis=1)]
    return np.where(half[:, 0] > 0, (lower + upper) / 2, np.nan)
