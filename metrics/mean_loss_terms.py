"""A loss and each of its terms as metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from ignite.metrics import Metric

from metrics.gather_ranks import gather_ranks


class LossWithTerms(Protocol):
    """A loss that can name its terms, each a scalar mean over the batch."""

    def terms(self, outputs: Any, targets: Any, /) -> Mapping[str, torch.Tensor]: ...


class MeanLossTerms(Metric):
    """Mean of every term of a loss over the scans of an epoch and all ranks, each under its name.

    A batch counts by its number of scans, so a short last batch does not weigh too much.

    Args:
        loss: its ``terms(outputs, targets)`` gives a mapping of names to batch means.
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)``;
            ``targets["patient_id"]`` names each scan of the batch.
    """

    def __init__(
        self,
        loss: LossWithTerms,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self._loss = loss
        super().__init__(output_transform=output_transform, metrics_result_mode="flatten")

    def reset(self) -> None:
        self._scans = 0
        self._sums: dict[str, float] = {}

    @torch.no_grad()
    def update(self, output: tuple[Any, Mapping[str, Any]]) -> None:
        outputs, targets = output
        scans = len(targets["patient_id"])
        self._scans += scans
        for name, mean in self._loss.terms(outputs, targets).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(mean) * scans

    def compute(self) -> dict[str, float]:
        """Names to means; empty where no scan was seen on any rank."""
        ranks = gather_ranks((self._scans, self._sums))
        scans = sum(count for count, _ in ranks)
        names = {name: None for _, sums in ranks for name in sums}  # in order of appearance
        return {name: sum(sums.get(name, 0.0) for _, sums in ranks) / scans for name in names}
