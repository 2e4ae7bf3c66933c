"""What an evaluation keeps of each scan."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from metrics import censoring_weights, judged_attention
from networks.risk_calibration import RiskCalibration

COLUMNS = (
    "patient_id",
    "risk",
    "predicted_risk",
    "calibrated_risk",
    "attention_mass",
    "chance",
    "hit",
    "peak_distance_mm",
    "side",
    "side_hit",
    "lost_boxes",
    "weight",
)


def scan_rows(
    outputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    *,
    head: int,
    calibration: RiskCalibration | None,
) -> list[dict[str, Any]]:
    """One row of ``per_scan.csv`` for each scan of a batch; None where there is no value.

    Their ``weight`` takes all batches: :func:`weighted_rows`.

    Args:
        outputs: ``logits`` ``(B, Y)`` and ``scores`` ``(B, heads, *feature)``.
        targets: ``patient_id``, ``risk``, ``risk_known``, ``box_mask``, ``side_mask``, ``side``,
            ``box_distance_mm`` and ``lost_boxes``; with years also ``event`` and ``event_years``.
        head: the attention head compared with the lesion and its side.
        calibration: gives the calibrated risks.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    logits = outputs["logits"].detach().cpu()
    _check_finite(logits, targets["patient_id"])
    raw = logits.double().sigmoid()
    calibrated = None if calibration is None else calibration.risk(logits)
    label, known = targets["risk"][:, -1], targets["risk_known"][:, -1] > 0
    columns = {
        "patient_id": list(targets["patient_id"]),
        "risk": [
            int(risk) if is_known else None for risk, is_known in zip(label, known, strict=True)
        ],
        "predicted_risk": raw[:, -1].tolist(),
        "calibrated_risk": [None] * len(raw) if calibrated is None else calibrated[:, -1].tolist(),
        **_localization(outputs["scores"][:, head], targets),
        "lost_boxes": targets["lost_boxes"].tolist(),
    }
    if "event" in targets:
        columns |= {name: targets[name][:, 0].tolist() for name in ("event", "event_years")}
    years = raw if calibrated is None else calibrated
    if years.shape[1] > 1:
        columns |= {f"risk_year_{y}": risk.tolist() for y, risk in enumerate(years.T, start=1)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def weighted_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All rows of an evaluation with ``weight``, how much each counts in what is said of the risk.

    None where the label is not known. With years it is that of :func:`metrics.censoring_weights`
    at the last of them, else 1.
    """
    weights = np.ones(len(rows))
    if rows and "event" in rows[0]:
        years = max(1, sum(name.startswith("risk_year_") for name in rows[0]))
        follow_up = ([row[name] for row in rows] for name in ("event_years", "event"))
        weights = censoring_weights(*follow_up, year=years)
    return [
        {**row, "weight": None if row["risk"] is None else weight}
        for row, weight in zip(rows, weights.tolist(), strict=True)
    ]


def _localization(scores: torch.Tensor, targets: Mapping[str, Any]) -> dict[str, list[Any]]:
    judged = judged_attention(scores, targets)
    return {
        "attention_mass": _values(scan.mass for scan in judged),
        "chance": _values(scan.chance for scan in judged),
        "hit": _values(scan.hit for scan in judged),
        "peak_distance_mm": _values(scan.distance_mm for scan in judged),
        "side": list(targets["side"]),
        "side_hit": _values(scan.side_hit for scan in judged),
    }


def _values(column: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column]


def _check_finite(logits: torch.Tensor, patient_ids: Sequence[str]) -> None:
    for patient, scan in zip(patient_ids, logits, strict=True):
        if not bool(scan.isfinite().all()):
            raise ValueError(f"{patient}: the network's logits must be finite, got {scan.tolist()}")
