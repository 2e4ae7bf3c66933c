"""Average precision of a risk per scan, with its interval over patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.batch_scans import LabelledScan, labelled_scans
from metrics.bootstrap_interval import FloatArray
from metrics.censoring_weights import censoring_weights
from metrics.check_scans import check_weights, checked_labels
from metrics.epoch_values import WarnOnce, replace_values, value_with_interval
from metrics.gather_ranks import gather_scans

logger = logging.getLogger(__name__)


def weighted_scan_average_precision(
    scores: npt.ArrayLike, labels: npt.ArrayLike, weights: FloatArray
) -> FloatArray:
    """Average precision under each row of ``weights`` ``(resamples, scans)``.

    The mean precision over the steps of recall, as scikit-learn's ``average_precision_score``:
    scans of one score are recalled together, and nothing is interpolated.

    Args:
        scores: ``(scans,)``, logits or probabilities, higher for the positive class.
        labels: ``(scans,)`` of 0 and 1.
        weights: how often each scan counts.

    Returns:
        ``(resamples,)``, NaN where no positive scan was drawn.

    Raises:
        ValueError: other shapes or labels, or NaN among the scores.
    """
    score, is_positive = checked_labels(scores, labels)
    check_weights(weights, len(score))
    order = np.argsort(score)[::-1]
    last_tied = np.append(np.diff(score[order]) != 0, True)[: len(score)]
    drawn = weights[:, order]
    recalled = np.cumsum(drawn, axis=1)[:, last_tied]
    found = np.cumsum(drawn * is_positive[order], axis=1)[:, last_tied]
    precision = np.divide(found, recalled, out=np.zeros_like(found), where=recalled > 0)

    total = np.einsum("rs,s->r", weights, is_positive.astype(np.float64))
    area = np.einsum("rs,rs->r", np.diff(found, axis=1, prepend=0), precision)
    return np.divide(area, total, out=np.full(len(weights), np.nan), where=total > 0)


class ScanAveragePrecision(Metric):
    """Average precision of the scans of an epoch, over all ranks, with its 95 % patient bootstrap.

    Of a network with yearly logits it is that of the last year, over the scans whose label is
    known by then, each with its :func:`metrics.censoring_weights`. Attached as
    ``average_precision`` it writes that key, and with ``_low`` and ``_high`` the ends of its
    interval, to ``engine.state.metrics``; the ends are left out where
    :func:`metrics.bootstrap_interval` refuses them. With one class only the value is left out and
    one warning says so.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, Y)``, ``targets["risk"]`` and ``targets["risk_known"]``
            ``(B, Y)`` of 0 and 1, and ``targets["patient_id"]``, one per scan; of a yearly network
            also ``targets["event_years"]`` and ``targets["event"]`` ``(B, 1)``.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[LabelledScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self._scans.extend(labelled_scans(*output))

    def compute(self) -> dict[str, float]:
        """``average_precision`` and its ends; empty where the scans have one class only."""
        every_scan = gather_scans(self._scans)
        scans = [scan for scan in every_scan if scan.is_known]
        labels = [scan.label for scan in scans]
        if len(set(labels)) < 2:
            self._warn(
                f"average precision needs both classes, got {sum(labels):g} positives "
                f"in {len(scans)} scans: left out"
            )
            return {}
        statistic = partial(weighted_scan_average_precision, [scan.score for scan in scans], labels)
        patient_ids = [scan.patient_id for scan in scans]
        return value_with_interval(
            "average_precision", statistic, patient_ids, scan_weights=_scan_weights(every_scan)
        )

    def completed(self, engine: Engine, name: str) -> None:
        values = self.compute().items()
        renamed = {name + key.removeprefix("average_precision"): value for key, value in values}
        replace_values(engine, [name], renamed)


def _scan_weights(scans: Sequence[LabelledScan]) -> FloatArray:
    """How much each scan of known label counts, among all ``scans``."""
    known = [scan.is_known for scan in scans]
    years, event = np.array([(scan.followed_years, scan.event) for scan in scans]).T
    if np.isnan(event).any():
        return np.ones(sum(known))
    return censoring_weights(years, event, year=np.inf)[known]
