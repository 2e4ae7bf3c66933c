"""AUC of each year's risk among scans with censored follow-up, with its interval over patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.auroc import weighted_auroc
from metrics.batch_scans import FollowedScan, followed_scans
from metrics.bootstrap_interval import FloatArray
from metrics.censoring_weights import uncensored_probability
from metrics.check_scans import check_weights, checked_survival
from metrics.epoch_values import WarnOnce, replace_values, value_with_interval
from metrics.gather_ranks import gather_scans

logger = logging.getLogger(__name__)


def weighted_time_dependent_auc(
    scores: npt.ArrayLike,
    weights: FloatArray,
    *,
    event_years: npt.ArrayLike,
    event: npt.ArrayLike,
    year: float,
) -> FloatArray:
    """Cumulative/dynamic AUC at a year under each row of ``weights`` ``(resamples, scans)``.

    Probability that a scan with its event by ``year`` outranks one followed for longer than that.
    Scans censored by then are neither; in their place each event weighs the inverse of the
    probability that it was not censored (Uno et al., JASA 2007;102:527), by a Kaplan-Meier
    estimate on the same weighted scans.

    Args:
        scores: ``(scans,)``, higher for an event by ``year``.
        weights: how often each scan counts.
        event_years: ``(scans,)``, years to the event or to the end of follow-up.
        event: ``(scans,)``, 1 for an event and 0 where follow-up ended without.
        year: the time, in years.

    Returns:
        ``(resamples,)``, NaN where the drawn scans lack an event by ``year``, or a longer
        follow-up.

    Raises:
        ValueError: other shapes or events, NaN among the scores, or years that are not finite.
    """
    score, years, is_event = checked_survival(scores, event_years, event)
    check_weights(weights, len(score))
    is_case = is_event & (years <= year)
    compared = is_case | (years > year)
    probability = uncensored_probability(years, is_event, weights, until="at")
    uncensored = np.where(is_case, probability, 1)
    # Where it is 0 nobody was followed for longer, and there is no AUC whatever the weight.
    compared_weights = np.divide(
        weights, uncensored, out=np.zeros_like(weights), where=uncensored > 0
    )
    return weighted_auroc(score[compared], is_case[compared], compared_weights[:, compared])


class TimeDependentAuc(Metric):
    """Cumulative/dynamic AUC of each year's logit over the scans of an epoch, all ranks.

    Written to ``engine.state.metrics``, whatever name it is attached with: ``auc_year_1`` and so
    on, and with ``_low`` and ``_high`` their 95 % patient bootstrap, which estimates the censoring
    anew in each resample and is left out where :func:`metrics.bootstrap_interval` refuses it. A
    year without an event before its end, or with nobody followed for longer, is left out; one
    warning names the first such years.

    Args:
        years: number of yearly logits; that of column ``y - 1`` is the score of year ``y``.
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, years)``, ``targets["event_years"]`` and
            ``targets["event"]`` ``(B, 1)``, and ``targets["patient_id"]``, one per scan.
    """

    def __init__(
        self, years: int, output_transform: Callable[[Any], Any] = lambda output: output
    ) -> None:
        self._years = range(1, years + 1)
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[FollowedScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        width = output[0]["logits"].shape[-1]
        if width != len(self._years):
            raise ValueError(f"logits must be of {len(self._years)} years, got {width}")
        self._scans.extend(followed_scans(*output))

    def compute(self) -> dict[str, float]:
        """``auc_year_<y>`` and its ends for each year that has them."""
        scans = gather_scans(self._scans)
        scores = np.array([scan.scores for scan in scans]).reshape(-1, len(self._years))
        years, event = [scan.event_years for scan in scans], [scan.event for scan in scans]
        patient_ids = [scan.patient_id for scan in scans]
        values: dict[str, float] = {}
        for year, score in zip(self._years, scores.T, strict=True):
            statistic = partial(
                weighted_time_dependent_auc, score, event_years=years, event=event, year=year
            )
            values |= value_with_interval(f"auc_year_{year}", statistic, patient_ids)
        undefined = [str(year) for year in self._years if f"auc_year_{year}" not in values]
        if undefined:
            self._warn(
                "the AUC of a year needs an event by then and a scan followed for longer, "
                f"missing for year {', '.join(undefined)} of {len(scans)} scans: left out"
            )
        return values

    def completed(self, engine: Engine, name: str) -> None:
        replace_values(engine, (f"auc_year_{year}" for year in self._years), self.compute())
