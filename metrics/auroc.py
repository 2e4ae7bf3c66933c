"""Area under the ROC curve, with its interval over patients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import ignite.distributed as idist
import numpy as np
import numpy.typing as npt
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.bootstrap_interval import FloatArray, interval_ends
from metrics.gather_ranks import gather_ranks

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
    score, is_positive = _checked(scores, labels)
    if weights.ndim != 2 or weights.shape[1] != len(score):
        raise ValueError(f"weights must be (resamples, {len(score)}), got {weights.shape}")
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

    Attached as ``auroc`` it writes ``auroc``, ``auroc_low`` and ``auroc_high`` to
    ``engine.state.metrics``, so it serves as MONAI's key metric. The interval is left out where
    :func:`metrics.bootstrap_interval` refuses one.

    With one class only there is no AUROC: one warning says so, and the value is -1. MONAI keeps a
    NaN as the best value for ever, MLflow refuses ``None``, and 0.5 would be an invention; -1 is
    no possible AUROC, and every real one beats it.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, 1)``, ``targets["risk"]`` ``(B, 1)`` of 0 and 1, and
            ``targets["patient_id"]``, one per scan.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warned = False
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[tuple[str, float, float]] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        outputs, targets = output
        logits, risk = outputs["logits"], targets["risk"]
        if logits.ndim != 2 or logits.shape[1] != 1 or logits.shape != risk.shape:
            raise ValueError(
                f"logits and risk must be (B, 1), got {tuple(logits.shape)} and {tuple(risk.shape)}"
            )
        columns = (targets["patient_id"], logits[:, 0].tolist(), risk[:, 0].tolist())
        self._scans.extend(zip(*columns, strict=True))

    def compute(self) -> dict[str, float]:
        """``auroc``, and ``auroc_low`` and ``auroc_high`` where there are patients enough."""
        scans = [scan for rank in gather_ranks(self._scans) for scan in rank]
        patient_ids = [patient for patient, _, _ in scans]
        scores = np.array([score for _, score, _ in scans])
        labels = np.array([label for _, _, label in scans])
        if len(np.unique(labels)) < 2:
            self._warn_once(f"got {int(labels.sum())} positives in {len(scans)} scans")
            return {"auroc": UNDEFINED_AUROC}
        statistic = partial(weighted_auroc, scores, labels)
        return {"auroc": auroc(scores, labels), **interval_ends("auroc", statistic, patient_ids)}

    def completed(self, engine: Engine, name: str) -> None:
        # A key metric must stand under the name it was attached with, whatever that is.
        metrics = engine.state.metrics
        for end in ("low", "high"):
            metrics.pop(f"{name}_{end}", None)  # of an earlier epoch
        for key, value in self.compute().items():
            metrics[name + key.removeprefix("auroc")] = value

    def _warn_once(self, got: str) -> None:
        if not self._warned and idist.get_rank() == 0:
            logger.warning("AUROC needs both classes, %s: reported as %g", got, UNDEFINED_AUROC)
        self._warned = True


def _checked(
    scores: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels must be (scans,), got {scores.shape} and {labels.shape}"
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"scores must not be NaN, got {int(np.isnan(scores).sum())} NaN in {len(scores)} scans"
        )
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(f"labels must be 0 or 1, got {wrong[0]}")
    return scores, labels == 1
