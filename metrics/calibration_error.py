"""How far predicted risks are from how often cancer was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric
from scipy.special import expit

from metrics.batch_scans import LabelledScan, labelled_scans
from metrics.bootstrap_interval import FloatArray, weighted_mean
from metrics.check_scans import checked_labels
from metrics.epoch_values import replace_values, value_with_interval
from metrics.gather_ranks import gather_ranks

BINS = 10


class ReliabilityBins(NamedTuple):
    """Equal-mass bins of scans in order of risk; each array is ``(bins,)``, empty bins left out.

    Attributes:
        mean_risk: mean predicted risk of a bin.
        observed: share of its scans with cancer.
        scans: number of them in a bin.
    """

    mean_risk: FloatArray
    observed: FloatArray
    scans: npt.NDArray[np.int64]


def brier_score(risks: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean squared difference of risk and label (Brier 1950, Monthly Weather Review 78).

    Args:
        risks: ``(scans,)`` from 0 to 1.
        labels: ``(scans,)`` of 0 and 1.

    Raises:
        ValueError: other shapes or values, or no scan.
    """
    risk, label = _checked(risks, labels)
    return float(np.mean((risk - label) ** 2))


def expected_calibration_error(risks: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Expected calibration error (arXiv:1706.04599) over ten equal-mass bins (arXiv:1508.05154).

    The mean over scans of the distance between their bin's mean risk and its share of cancers.
    With n scans, one with k risks below its own lies in bin ``floor(10 k / n)``: without ties the
    bins differ by at most one scan, tied scans share a bin, and fewer than ten scans have a bin
    each. Few scans a bin make the error larger than it is, also for a perfect forecast.

    Args, errors: as for :func:`brier_score`.
    """
    risk, label = _checked(risks, labels)
    return float(_weighted_ece(risk, label, np.ones((1, len(risk))))[0])


def reliability_bins(risks: npt.ArrayLike, labels: npt.ArrayLike) -> ReliabilityBins:
    """The bins of :func:`expected_calibration_error`, for a reliability diagram."""
    risk, label = _checked(risks, labels)
    place = _bin_of(risk)
    count = np.bincount(place, minlength=BINS)
    used = count > 0
    sums = [np.bincount(place, values, minlength=BINS)[used] for values in (risk, label)]
    return ReliabilityBins(sums[0] / count[used], sums[1] / count[used], count[used])


def calibration_errors(
    risks: npt.ArrayLike, labels: npt.ArrayLike, patient_ids: Sequence[str], *, suffix: str = ""
) -> dict[str, float]:
    """``brier`` and ``ece``, each with ``_low`` and ``_high``, a 95 % bootstrap over patients.

    ``suffix`` stands behind both names. The risks and labels are as for :func:`brier_score`.

    The bins are those of the whole cohort in every resample. Resampling adds chance to each bin,
    so an error near 0 may lie below its own interval. Ends are left out where
    :func:`metrics.bootstrap_interval` refuses them.
    """
    risk, label = _checked(risks, labels)
    squared = (risk - label) ** 2
    return {
        **value_with_interval(f"brier{suffix}", partial(weighted_mean, squared), patient_ids),
        **value_with_interval(f"ece{suffix}", partial(_weighted_ece, risk, label), patient_ids),
    }


class CalibrationError(Metric):
    """Brier score and expected calibration error of an epoch's scans, over all ranks.

    Written to ``engine.state.metrics`` under the names of :func:`calibration_errors`, whatever
    name it is attached with; nothing is written where no scan has a known label. The risk is the
    sigmoid of the logit; of a yearly network the last year's, over the scans where that is known.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]``, ``targets["risk"]`` and ``targets["risk_known"]``, all
            ``(B, Y)``, and ``targets["patient_id"]``, one per scan.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[LabelledScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self._scans.extend(labelled_scans(*output))

    def compute(self) -> dict[str, float]:
        """As :func:`calibration_errors`; empty where no scan has a known label."""
        scans = [scan for rank in gather_ranks(self._scans) for scan in rank]
        if not scans:
            return {}
        patient_ids, scores, labels = zip(*scans, strict=True)
        return calibration_errors(expit(scores), labels, patient_ids)

    def completed(self, engine: Engine, name: str) -> None:
        replace_values(engine, ("brier", "ece"), self.compute())


def _bin_of(risks: FloatArray) -> npt.NDArray[np.int64]:
    below = np.searchsorted(np.sort(risks), risks, side="left")
    return below * BINS // len(risks)


def _weighted_ece(risks: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """ECE under each row of ``weights`` ``(resamples, scans)``."""
    excess = np.zeros((len(risks), BINS))
    excess[np.arange(len(risks)), _bin_of(risks)] = risks - labels
    return np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1)


def _checked(risks: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    risk, is_cancer = checked_labels(risks, labels)
    if not len(risk):
        raise ValueError("a calibration error needs at least one scan, got none")
    outside = risk[(risk < 0) | (risk > 1)]
    if len(outside):
        raise ValueError(f"risks must be from 0 to 1, got {outside[0]}")
    return risk, is_cancer.astype(np.float64)
