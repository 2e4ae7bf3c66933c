"""Calibration of a network's logit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from metrics.bootstrap_interval import FloatArray

MIN_SCANS_PER_CLASS = 5


class NoCalibrationError(ValueError):
    """The scans do not allow a calibration; the sentence says why."""


class PlattScaling(NamedTuple):
    """Calibrated risk = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float


def platt_scaling(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike
) -> PlattScaling:
    """Platt's scaling (1999, Advances in Large Margin Classifiers), with his smoothed targets.

    The targets are (P + 1) / (P + 2) and 1 / (N + 2) for P positives and N negatives, so that the
    fit is finite where the logits separate the classes. Yearly logits share slope and intercept:
    every known year of a scan is one term with its weight, and P and N are the numbers of known
    scans, unweighted, by their last year.

    Args:
        logits: ``(scans, years)``.
        labels: ``(scans, years)`` of 0 and 1.
        weights: ``(scans, years)``, how much each label counts, 0 where it is not known.

    Raises:
        NoCalibrationError: fewer than 5 positives or 5 negatives known in the last year, a logit
            that is not finite, or logits that do not rise with the label.
    """
    logit, label = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    weight = np.asarray(weights, dtype=np.float64)
    is_known = weight > 0
    last = label[:, -1][is_known[:, -1]]
    positives, negatives = int((last == 1).sum()), int((last == 0).sum())
    if min(positives, negatives) < MIN_SCANS_PER_CLASS:
        raise NoCalibrationError(
            f"a calibration needs at least {MIN_SCANS_PER_CLASS} positives and "
            f"{MIN_SCANS_PER_CLASS} negatives, got {positives} and {negatives}"
        )
    values = logit[is_known]
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise NoCalibrationError(f"a calibration needs finite logits, got {wrong} others")
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    targets = np.where(label[is_known] == 1, high, low)
    scaling = _fitted(values, targets, weight[is_known])
    if not scaling.slope > 0:
        raise NoCalibrationError(
            f"a calibration needs logits that rise with the label, got slope {scaling.slope:.3g} "
            f"for {positives} positives and {negatives} negatives"
        )
    return scaling


def _fitted(logits: FloatArray, targets: FloatArray, weights: FloatArray) -> PlattScaling:
    spread = logits.std()
    if spread == 0:
        return PlattScaling(0.0, 0.0)
    # In units of their own spread, so that one step length suits both parameters.
    centre, scaled = logits.mean(), (logits - logits.mean()) / spread
    share = weights / weights.sum()

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        score = parameters[0] * scaled + parameters[1]
        excess = share * (expit(score) - targets)
        loss = share @ (np.logaddexp(0, score) - targets * score)
        return float(loss), np.array([excess @ scaled, excess.sum()])

    found = minimize(loss_and_gradient, np.zeros(2), jac=True, method="BFGS", tol=1e-9)
    slope = float(found.x[0] / spread)
    return PlattScaling(slope, float(found.x[1] - slope * centre))
