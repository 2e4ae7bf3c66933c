from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from metrics import MeanLossTerms


class _TwoTerms:
    def terms(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        error = outputs["logits"] - targets["risk"]
        return {"loss": error.abs().mean(), "box_loss": (error**2).mean()}


def _targets(risk: torch.Tensor) -> dict[str, Any]:
    return {"risk": risk, "patient_id": [f"patient-{index}" for index in range(len(risk))]}


def test_a_short_last_batch_weighs_by_its_scans() -> None:
    logits = torch.tensor([[1.0], [2.0], [3.0], [10.0]])
    risk = torch.zeros(4, 1)
    metric = MeanLossTerms(_TwoTerms())
    for part in (slice(0, 3), slice(3, 4)):
        metric.update(({"logits": logits[part]}, _targets(risk[part])))
    assert metric.compute() == pytest.approx({"loss": 4.0, "box_loss": 114 / 4})


def test_outputs_may_be_lists_over_levels() -> None:
    class FirstLevel:
        def terms(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
            return {"loss": outputs["logits"][0].mean()}

    metric = MeanLossTerms(FirstLevel())
    for values in ([1.0, 2.0, 3.0], [10.0]):
        levels = [torch.tensor(values)[:, None], torch.zeros(len(values), 1)]
        metric.update(({"logits": levels}, _targets(levels[1])))
    assert metric.compute() == {"loss": 4.0}


def test_reset_starts_anew_and_no_scan_gives_no_term() -> None:
    metric = MeanLossTerms(_TwoTerms())
    metric.update(({"logits": torch.ones(2, 1)}, _targets(torch.zeros(2, 1))))
    metric.reset()
    assert metric.compute() == {}
