"""How far predicted risks are from how often cancer was there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray, weighted_mean
from metrics.check_scans import check_weights, checked_labels
from metrics.epoch_values import value_with_interval

BINS = 10


class ReliabilityBins(NamedTuple):
    """Equal-mass bins of scans in order of risk; each array is ``(bins,)``, empty bins left out.

    Attributes:
        mean_risk: weighted mean of the predicted risks of a bin.
        observed: weighted share of its scans with cancer.
        scans: number of them in a bin.
    """

    mean_risk: FloatArray
    observed: FloatArray
    scans: npt.NDArray[np.int64]


def brier_score(risks: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Weighted mean squared difference of risk and label (Brier 1950, Mon. Weather Rev. 78).

    Args:
        risks: ``(scans,)`` from 0 to 1.
        labels: ``(scans,)`` of 0 and 1.
        weights: ``(scans,)``, how much each counts, above 0.

    Raises:
        ValueError: other shapes or values, or no scan.
    """
    risk, label, weight = _checked(risks, labels, weights)
    return float(np.average((risk - label) ** 2, weights=weight))


def expected_calibration_error(
    risks: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike
) -> float:
    """Expected calibration error (arXiv:1706.04599) over ten equal-mass bins (arXiv:1508.05154).

    The weighted mean over scans of the distance between their bin's mean risk and share of cancers.
    With n scans, one with k risks below its own lies in bin ``floor(10 k / n)``: without ties the
    bins differ by at most one scan, tied scans share a bin, and fewer than ten scans have a bin
    each; weights move none. Few scans a bin make the error larger than it is, also for a perfect
    forecast.

    Args, errors: as for :func:`brier_score`.
    """
    risk, label, weight = _checked(risks, labels, weights)
    return float(_weighted_ece(risk, label, weight[None])[0])


def reliability_bins(
    risks: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike
) -> ReliabilityBins:
    """The bins of :func:`expected_calibration_error`, for a reliability diagram."""
    risk, label, weight = _checked(risks, labels, weights)
    place = _bin_of(risk)
    scans = np.bincount(place, minlength=BINS)
    used = scans > 0
    mass, risk_sum, cancers = (
        np.bincount(place, values, minlength=BINS)[used]
        for values in (weight, weight * risk, weight * label)
    )
    return ReliabilityBins(risk_sum / mass, cancers / mass, scans[used])


def calibration_errors(
    risks: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    patient_ids: Sequence[str],
    suffix: str = "",
) -> dict[str, float]:
    """``brier`` and ``ece``, each with ``_low`` and ``_high``, a 95 % bootstrap over patients.

    ``suffix`` stands behind both names. Risks, labels and weights are as for :func:`brier_score`.

    The bins and the weights are those of the whole cohort in every resample. Resampling adds chance
    to each bin, so an error near 0 may lie below its own interval. Ends are left out where
    :func:`metrics.bootstrap_interval` refuses them.
    """
    risk, label, weight = _checked(risks, labels, weights)
    statistics = {
        f"brier{suffix}": partial(weighted_mean, (risk - label) ** 2),
        f"ece{suffix}": partial(_weighted_ece, risk, label),
    }
    values: dict[str, float] = {}
    for name, statistic in statistics.items():
        values |= value_with_interval(name, statistic, patient_ids, scan_weights=weight)
    return values


def _bin_of(risks: FloatArray) -> npt.NDArray[np.int64]:
    below = np.searchsorted(np.sort(risks), risks, side="left")
    return below * BINS // len(risks)


def _weighted_ece(risks: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """ECE under each row of ``weights`` ``(resamples, scans)``."""
    excess = np.zeros((len(risks), BINS))
    excess[np.arange(len(risks)), _bin_of(risks)] = risks - labels
    return np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1)


def _checked(
    risks: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    risk, is_cancer = checked_labels(risks, labels)
    if not len(risk):
        raise ValueError("a calibration error needs at least one scan, got none")
    outside = risk[(risk < 0) | (risk > 1)]
    if len(outside):
        raise ValueError(f"risks must be from 0 to 1, got {outside[0]}")
    weight = np.asarray(weights, dtype=np.float64)
    check_weights(weight[None], len(risk))
    return risk, is_cancer.astype(np.float64), weight
