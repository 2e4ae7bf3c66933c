"""From a network's logit to a calibrated risk, and to the decision whether to recall."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class RiskCalibration:
    """Platt scaling of the logit and an operating point, both fitted on a validation split.

    One slope above 0 serves all years, so yearly risks stay in order and the ranking of scans is
    the network's own.

    Attributes:
        slope: factor of the logit, above 0.
        intercept: added to it.
        threshold: a scan whose calibrated risk (of the last year) is at least this is recalled.
        target_sensitivity: sensitivity that the threshold was chosen for.
        split: of the datalist that it was fitted on.
        datalist: that datalist's name.
        scans: number of scans that it was fitted on.
        positives: those among them known to have cancer by the last year.
        checkpoint_sha256: of the weights file that gave the logits.
        patients_sha256: SHA-256 of each patient's id, to find a patient again; whoever can list
            the ids can undo it, so it is no protection of a name.

    Raises:
        ValueError: a number is outside of its range.
    """

    slope: float
    intercept: float
    threshold: float
    target_sensitivity: float
    split: str
    datalist: str | None
    scans: int
    positives: int
    checkpoint_sha256: str
    patients_sha256: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and self.slope > 0):
            raise ValueError(f"slope must be above 0, got {self.slope}")
        if not math.isfinite(self.intercept):
            raise ValueError(f"intercept must be finite, got {self.intercept}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {self.threshold}")

    def risk(self, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated risk of logits of any shape, in float64."""
        return (self.slope * logits.detach().double() + self.intercept).sigmoid()

    def fitted_on(self, patient_id: str) -> bool:
        """Whether this patient's scans were among those of the fit."""
        return patient_sha256(patient_id) in self._patients

    @cached_property
    def _patients(self) -> frozenset[str]:
        return frozenset(self.patients_sha256)

    def description(self) -> dict[str, Any]:
        """All but the patients, for a file of results."""
        return {name: value for name, value in asdict(self).items() if name != "patients_sha256"}


def patient_sha256(patient_id: str) -> str:
    """SHA-256 of a patient's id, in hexadecimal digits."""
    return hashlib.sha256(patient_id.encode()).hexdigest()


def read_calibration(path: str | Path | None) -> RiskCalibration | None:
    """The calibration in a ``calibration.json``; None for no path, or where there is no file.

    Raises:
        ValueError: the file is no calibration; the sentence names it.
    """
    if path is None or not Path(path).exists():
        return None
    names = {field.name for field in fields(RiskCalibration)}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or set(content) != names:
            raise ValueError(f"it must hold {', '.join(sorted(names))}")
        patients = tuple(content.pop("patients_sha256"))
        return RiskCalibration(**content, patients_sha256=patients)
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: must be a readable calibration, got {error}") from error
