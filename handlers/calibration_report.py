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
    interval where there are patients enough.

    Args:
        rows: of :func:`handlers.scan_rows`, those whose label ``risk`` is known.
        calibration: the one that gave ``calibrated_risk``.
    """
    if not rows:
        return {}
    labels = np.array([row["risk"] for row in rows])
    patients = np.array([row["patient_id"] for row in rows])
    raw = [row["predicted_risk"] for row in rows]
    metrics = calibration_errors(raw, labels, patients.tolist())
    if calibration is None:
        return metrics
    risks = [row["calibrated_risk"] for row in rows]
    metrics |= calibration_errors(risks, labels, patients.tolist(), suffix="_calibrated")
    recalled = recalled_scans(rows, calibration)
    for name, label, right in (("sensitivity", 1, recalled), ("specificity", 0, ~recalled)):
        members = labels == label
        if members.any():
            share = partial(weighted_mean, right[members])
            metrics |= value_with_interval(name, share, patients[members].tolist())
    return metrics


def screening_report(
    rows: Sequence[Mapping[str, Any]],
    calibration: RiskCalibration | None,
    prevalence: float | None,
) -> dict[str, Any] | None:
    """The screening table at the operating point; None without scans or calibration.

    ``cohort`` is at the share of cancers among the scans, ``reweighted`` at ``prevalence``; the
    latter is None without one, or where the cohort lacks a class that it needs.

    Args:
        rows: as for :func:`calibration_metrics`.
        calibration: has the threshold.
        prevalence: share of cancers in the screening, from 0 to 1.
    """
    if not rows or calibration is None:
        return None
    recalled, cancer = recalled_scans(rows, calibration), [row["risk"] == 1 for row in rows]
    reweighted = None
    if prevalence is not None:
        try:
            reweighted = screening_table(recalled, cancer, prevalence=prevalence)._asdict()
        except ValueError as error:
            logger.warning("The screening table is not re-weighted: %s", error)
    return {
        "screens": SCREENS,
        "threshold": calibration.threshold,
        "target_sensitivity": calibration.target_sensitivity,
        "cohort": screening_table(recalled, cancer)._asdict(),
        "reweighted": reweighted,
    }


def recalled_scans(
    rows: Sequence[Mapping[str, Any]], calibration: RiskCalibration
) -> npt.NDArray[np.bool_]:
    """Whether each scan's calibrated risk reaches the threshold."""
    return np.array([row["calibrated_risk"] for row in rows]) >= calibration.threshold
