"""How much a scan of known outcome counts where the follow-up of others ended before."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import BoolArray, checked_survival


def censoring_weights(
    event_years: npt.ArrayLike, event: npt.ArrayLike, *, year: float
) -> FloatArray:
    """Inverse probability that a scan's label at ``year`` is known (IPCW), ``(scans,)``.

    A cancer is known from its diagnosis on, a healthy scan only if it was followed to ``year``, so
    that cancers are too many among the known. Each known scan stands for those censored before:
    it weighs the inverse of the Kaplan-Meier probability of being followed until its event, or
    until ``year`` if that is earlier (Graf et al., Stat Med 1999;18:2529). The weights of the
    known scans add up to the number of all scans as long as one is followed to ``year``. Those of
    other scans mean nothing; mask them.

    Args:
        event_years: ``(scans,)``, years to the diagnosis or to the end of follow-up, of all scans.
        event: ``(scans,)``, 1 for a diagnosis and 0 where follow-up ended without.
        year: that of the label.

    Raises:
        ValueError: other shapes or events, or years that are not finite.
    """
    _, years, is_event = checked_survival(np.zeros(np.shape(event)), event_years, event)
    followed, every_scan = np.minimum(years, year), np.ones((1, len(years)))
    # A scan is itself followed until its own time: the probability is never 0.
    return 1 / uncensored_probability(followed, is_event, every_scan, until="before")[0]


def uncensored_probability(
    years: FloatArray, is_event: BoolArray, weights: FloatArray, *, until: Literal["before", "at"]
) -> FloatArray:
    """Kaplan-Meier estimate that a scan is not yet censored at each scan's own time.

    Where times tie, events come before censoring; those censored at the very time count with
    ``until="at"`` and not with ``until="before"``. Returns ``(resamples, scans)``.
    """
    order = np.lexsort((~is_event, years))
    drawn = weights[:, order]
    at_risk = drawn[:, ::-1].cumsum(axis=1)[:, ::-1]
    # One factor per scan: those of tied scans multiply to the one factor of their time.
    censored = np.divide(
        drawn * ~is_event[order], at_risk, out=np.zeros_like(drawn), where=at_risk > 0
    )
    uncensored = np.pad(np.cumprod(1 - censored, axis=1), ((0, 0), (1, 0)), constant_values=1)
    side: Literal["left", "right"] = "left" if until == "before" else "right"
    return uncensored[:, np.searchsorted(years[order], years, side=side)]
