"""Harrell's C-index of a risk per scan, with its interval over patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.batch_scans import FollowedScan, followed_scans
from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import check_weights, checked_survival
from metrics.epoch_values import WarnOnce, replace_values, value_with_interval
from metrics.gather_ranks import gather_scans

logger = logging.getLogger(__name__)

_BLOCK_ELEMENTS = 1_000_000  # pairs of scans held at once


def weighted_concordance(
    scores: npt.ArrayLike, weights: FloatArray, *, event_years: npt.ArrayLike, event: npt.ArrayLike
) -> FloatArray:
    """Harrell's C-index (JAMA 1982;247:2543) under each row of ``weights`` ``(resamples, scans)``.

    Share of the comparable pairs in which the scan with the earlier event has the higher score, a
    tied score counting half. An event is comparable with every scan that was followed for longer,
    and with one censored at the same time; two events at the same time are not comparable.

    Args:
        scores: ``(scans,)``, higher for an earlier event.
        weights: how often each scan counts.
        event_years: ``(scans,)``, years to the event or to the end of follow-up.
        event: ``(scans,)``, 1 for an event and 0 where follow-up ended without.

    Returns:
        ``(resamples,)``, NaN where no drawn pair is comparable.

    Raises:
        ValueError: other shapes or events, NaN among the scores, or years that are not finite.
    """
    score, years, is_event = checked_survival(scores, event_years, event)
    check_weights(weights, len(score))
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    events = np.flatnonzero(is_event)
    step = max(1, _BLOCK_ELEMENTS // max(1, len(score)))
    for start in range(0, len(events), step):
        block = events[start : start + step]
        year, risk = years[block, None], score[block, None]
        comparable = (years > year) | ((years == year) & ~is_event)
        beaten = comparable * ((risk > score) + 0.5 * (risk == score))
        wins += np.einsum("re,re->r", weights[:, block], weights @ beaten.T)
        pairs += np.einsum("re,re->r", weights[:, block], weights @ comparable.T.astype(float))
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


class Concordance(Metric):
    """C-index of the scans of an epoch, over all ranks, with its 95 % patient bootstrap.

    The score is the last year's logit. Attached as ``concordance`` it writes that key, and with
    ``_low`` and ``_high`` the ends of its interval, to ``engine.state.metrics``; the ends are left
    out where :func:`metrics.bootstrap_interval` refuses them. Without a comparable pair the value
    is left out and one warning says so.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, Y)``, ``targets["event_years"]`` and ``targets["event"]``
            ``(B, 1)``, and ``targets["patient_id"]``, one per scan.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[FollowedScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self._scans.extend(followed_scans(*output))

    def compute(self) -> dict[str, float]:
        """``concordance`` and its ends; empty where no pair of scans is comparable."""
        scans = gather_scans(self._scans)
        event = [scan.event for scan in scans]
        statistic = partial(
            weighted_concordance,
            [scan.scores[-1] for scan in scans],
            event_years=[scan.event_years for scan in scans],
            event=event,
        )
        values = value_with_interval("concordance", statistic, [scan.patient_id for scan in scans])
        if not values:
            self._warn(
                "concordance needs an event and a scan that was followed for longer, "
                f"got {sum(event):g} events in {len(scans)} scans: left out"
            )
        return values

    def completed(self, engine: Engine, name: str) -> None:
        values = self.compute().items()
        renamed = {name + key.removeprefix("concordance"): value for key, value in values}
        replace_values(engine, [name], renamed)
