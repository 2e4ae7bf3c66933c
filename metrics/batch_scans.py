"""What the metrics over a cohort keep of each scan of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class LabelledScan(NamedTuple):
    """Last year's logit of a scan, and whether there was a cancer by then (1) or not (0).

    ``label`` is NaN where that is not known. ``followed_years``, at most the last year, and
    ``event`` are as in :class:`FollowedScan`, and NaN where the label does not depend on them.
    """

    patient_id: str
    score: float
    label: float
    followed_years: float = math.nan
    event: float = math.nan

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.label)


class FollowedScan(NamedTuple):
    """A scan's logit of each year, and the years to its event (1) or its censoring (0)."""

    patient_id: str
    scores: list[float]
    event_years: float
    event: float


def labelled_scans(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> list[LabelledScan]:
    """The scans of a batch with their label of the last year.

    Args:
        outputs: ``logits`` ``(B, Y)``, Y being 1 for a network without years.
        targets: ``risk`` and ``risk_known`` ``(B, Y)`` of 0 and 1, and ``patient_id``; of a yearly
            network also ``event_years`` and ``event`` ``(B, 1)``.

    Raises:
        ValueError: other shapes.
    """
    logits, risk, known = outputs["logits"], targets["risk"], targets["risk_known"]
    if logits.ndim != 2 or not logits.shape == risk.shape == known.shape:
        raise ValueError(
            "logits, risk and risk_known must be (B, years), "
            f"got {tuple(logits.shape)}, {tuple(risk.shape)} and {tuple(known.shape)}"
        )
    label = risk[:, -1].float().masked_fill(known[:, -1] <= 0, math.nan)
    columns = [logits[:, -1].tolist(), label.tolist()]
    if "event" in targets:
        followed = targets["event_years"][:, 0].clamp(max=logits.shape[1])
        columns += [followed.tolist(), targets["event"][:, 0].tolist()]
    return [LabelledScan(*row) for row in zip(targets["patient_id"], *columns, strict=True)]


def followed_scans(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> list[FollowedScan]:
    """The scans of a batch with their follow-up.

    Args:
        outputs: ``logits`` ``(B, Y)``.
        targets: ``event_years`` and ``event`` ``(B, 1)``, and ``patient_id``.

    Raises:
        ValueError: other shapes.
    """
    logits, years, event = outputs["logits"], targets["event_years"], targets["event"]
    if logits.ndim != 2 or not (len(logits), 1) == years.shape == event.shape:
        raise ValueError(
            "logits must be (B, years), event_years and event (B, 1), "
            f"got {tuple(logits.shape)}, {tuple(years.shape)} and {tuple(event.shape)}"
        )
    columns = (logits.tolist(), years[:, 0].tolist(), event[:, 0].tolist())
    return [FollowedScan(*row) for row in zip(targets["patient_id"], *columns, strict=True)]
