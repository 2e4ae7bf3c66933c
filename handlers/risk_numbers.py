"""The risk of one scan, as numbers for a file."""

from __future__ import annotations

from typing import Any

import torch

from networks.risk_calibration import RiskCalibration


def risk_numbers(logits: torch.Tensor, calibration: RiskCalibration | None) -> dict[str, Any]:
    """``risk`` and what belongs to it, from the logits ``(Y,)`` of one scan.

    ``raw_risk`` is the sigmoid of the last year's logit; ``risk`` the same after calibration, or
    ``raw_risk`` without one. ``yearly_risk`` is there where Y is above 1, calibrated as ``risk``;
    ``recall``, whether the risk reaches the threshold, where there is a calibration.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    logits = logits.detach().cpu()
    wrong = logits[~logits.isfinite()]
    if len(wrong):
        raise ValueError(f"the network's logit must be finite, got {float(wrong[0])}")
    raw = logits.double().sigmoid()
    risks = (raw if calibration is None else calibration.risk(logits)).tolist()
    numbers: dict[str, Any] = {"risk": risks[-1], "raw_risk": float(raw[-1])}
    if len(risks) > 1:
        numbers["yearly_risk"] = risks
    if calibration is not None:
        numbers["recall"] = risks[-1] >= calibration.threshold
    return numbers
