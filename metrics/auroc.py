"""Area under the ROC curve, with its interval over patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.batch_scans import LabelledScan, labelled_scans
from metrics.bootstrap_interval import FloatArray
from metrics.check_scans import check_weights, checked_labels
from metrics.epoch_values import WarnOnce, replace_values, value_with_interval
from metrics.gather_ranks import gather_scans

logger = logging.getLogger(__name__)

UNDEFINED_AUROC = -1.0


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Probability that a positive outranks a negative, a tie counting half (Mann and Whitney).

    Args:
        scores: ``(scans,)``, logits or probabilities, higher for the positive class.
        labels: ``(scans,)`` of 0 and 1.

    Raises:
        ValueError: other shapes or labels, NaN among the scores, or one class only.
    """
    value = float(weighted_auroc(scores, labels, np.ones((1, np.size(scores))))[0])
    if np.isnan(value):
        positives = int(np.sum(np.asarray(labels)))
        raise ValueError(
            f"auroc needs both classes, got {positives} positives in {np.size(labels)} scans"
        )
    return value


def weighted_auroc(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """AUROC under each row of ``weights`` ``(resamples, scans)``: one sort serves all rows.

    Returns ``(resamples,)``, NaN where the drawn scans have one class only.
    """
    score, is_positive = checked_labels(scores, labels)
    check_weights(weights, len(score))
    order = np.argsort(score)
    negatives, positives = order[~is_positive[order]], order[is_positive[order]]

    # A positive beats the weight of negatives below it, and half of the weight of those tied.
    below = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
    first_tied = np.searchsorted(score[negatives], score[positives], side="left")
    after_tied = np.searchsorted(score[negatives], score[positives], side="right")
    beaten = (below[:, first_tied] + below[:, after_tied]) / 2

    positive_weights = weights[:, positives]
    wins = np.einsum("rp,rp->r", positive_weights, beaten)
    pairs = positive_weights.sum(axis=1) * below[:, -1]
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


class Auroc(Metric):
    """AUROC of the scans of an epoch, over all ranks, with its 95 % patient bootstrap.

    Of a network with yearly logits it is that of the last year, over the scans whose label is
    known by then.

    Attached as ``auroc`` it writes ``auroc``, ``auroc_low`` and ``auroc_high`` to
    ``engine.state.metrics``, so it serves as MONAI's key metric. The interval is left out where
    :func:`metrics.bootstrap_interval` refuses one.

    With one class only there is no AUROC: one warning says so, and the value is -1. MONAI keeps a
    NaN as the best value for ever, MLflow refuses ``None``, and 0.5 would be an invention; -1 is
    no possible AUROC, and every real one beats it.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, Y)``, ``targets["risk"]`` and ``targets["risk_known"]``
            ``(B, Y)`` of 0 and 1, and ``targets["patient_id"]``, one per scan.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[LabelledScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self._scans.extend(labelled_scans(*output))

    def compute(self) -> dict[str, float]:
        """``auroc``, and ``auroc_low`` and ``auroc_high`` where there are patients enough."""
        scans = [scan for scan in gather_scans(self._scans) if scan.is_known]
        labels = [scan.label for scan in scans]
        statistic = partial(weighted_auroc, [scan.score for scan in scans], labels)
        values = value_with_interval("auroc", statistic, [scan.patient_id for scan in scans])
        if not values:
            self._warn(
                f"AUROC needs both classes, got {sum(labels):g} positives in {len(scans)} scans: "
                f"reported as {UNDEFINED_AUROC:g}"
            )
            return {"auroc": UNDEFINED_AUROC}
        return values

    def completed(self, engine: Engine, name: str) -> None:
        # A key metric must stand under the name it was attached with, whatever that is.
        values = self.compute().items()
        replace_values(
            engine, [name], {name + key.removeprefix("auroc"): value for key, value in values}
        )
