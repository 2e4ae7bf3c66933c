"""What the calibration and the operating point are worth on the scans of an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from metrics import calibration_errors, screening_table, weighted_mean
from metrics.epoch_values import value_with_interval
from metrics.screening_table import SCREENS
from networks.risk_calibration import RiskCalibration

logger = logging.getLogger(__name__)


def calibration_metrics(
    rows: Sequence[Mapping[str, Any]], calibration: RiskCalibration | None
) -> dict[str, float]:
    """Brier score and ECE of the raw risk and, with a calibration, of the calibrated one.

    With a calibration also ``sensitivity`` and ``specificity`` at its threshold. Each has its
    interval where there are patients enough. Brier score and ECE are left out where the rows do
    not represent the cohort.

    Args:
        rows: of :func:`handlers.scan_rows.weighted_rows`, those whose label ``risk`` is known.
        calibration: the one that gave ``calibrated_risk``.
    """
    if not rows:
        return {}
    labels = np.array([row["risk"] for row in rows])
    patients = np.array([row["patient_id"] for row in rows])
    weights = np.array([row["weight"] for row in rows])
    metrics: dict[str, float] = {}
    forecasts = {"predicted_risk": ""} | ({"calibrated_risk": "_calibrated"} if calibration else {})
    if represents_the_cohort(rows):
        for name, suffix in forecasts.items():
            risks = [row[name] for row in rows]
            metrics |= calibration_errors(
                risks, labels, weights, patient_ids=patients.tolist(), suffix=suffix
            )
    else:
        logger.warning(
            "Brier score, ECE and what takes a prevalence need a scan without cancer that was "
            "followed to the last year, got 0 in %d scans of known label: left out",
            len(rows),
        )
    if calibration is None:
        return metrics
    recalled = recalled_scans(rows, calibration)
    for name, label, right in (("sensitivity", 1, recalled), ("specificity", 0, ~recalled)):
        members = labels == label
        if members.any():
            share = partial(weighted_mean, right[members])
            metrics |= value_with_interval(
                name, share, patients[members].tolist(), scan_weights=weights[members]
            )
    return metrics


def represents_the_cohort(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there are rows, and their weights stand for those of unknown label too.

    Where follow-up of all without cancer ended before the last year, no weight makes up for them.
    """
    return bool(rows) and ("event" not in rows[0] or any(row["risk"] == 0 for row in rows))


def screening_report(
    rows: Sequence[Mapping[str, Any]],
    calibration: RiskCalibration | None,
    prevalence: float | None,
) -> dict[str, Any] | None:
    """The screening table at the operating point; None without calibration or scans to tell it.

    ``cohort`` is at the share of cancers among the scans, ``reweighted`` at ``prevalence``; the
    latter is None without one, or where the cohort lacks a class that it needs.

    Args:
        rows: as for :func:`calibration_metrics`.
        calibration: has the threshold.
        prevalence: share of cancers in the screening, from 0 to 1.
    """
    if calibration is None or not represents_the_cohort(rows):
        return None
    recalled, cancer = recalled_scans(rows, calibration), [row["risk"] == 1 for row in rows]
    weights = [row["weight"] for row in rows]
    reweighted = None
    if prevalence is not None:
        try:
            reweighted = screening_table(recalled, cancer, weights, prevalence=prevalence)._asdict()
        except ValueError as error:
            logger.warning("The screening table is not re-weighted: %s", error)
    return {
        "screens": SCREENS,
        "threshold": calibration.threshold,
        "target_sensitivity": calibration.target_sensitivity,
        "cohort": screening_table(recalled, cancer, weights)._asdict(),
        "reweighted": reweighted,
    }


def recalled_scans(
    rows: Sequence[Mapping[str, Any]], calibration: RiskCalibration
) -> npt.NDArray[np.bool_]:
    """Whether each scan's calibrated risk reaches the threshold."""
    return np.array([row["calibrated_risk"] for row in rows]) >= calibration.threshold
