from __future__ import annotations

import math

import pytest
import torch

from losses import RiskAttentionLoss, attention_loss


def _batch() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    outputs = {
        "logits": torch.zeros(2, 1, requires_grad=True),
        "scores": torch.randn(
            2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(3)
        ).requires_grad_(),
    }
    box = torch.zeros(2, 1, 4, 4, 4)
    box[0, 0, 1, 1, 1] = 1
    side = torch.zeros(2, 1, 4, 4, 4)
    side[0, 0, :2] = 1
    return outputs, {"risk": torch.tensor([[1.0], [0.0]]), "box_mask": box, "side_mask": side}


def test_the_total_is_the_weighted_sum_of_its_terms() -> None:
    outputs, targets = _batch()
    loss = RiskAttentionLoss(lambda_box=0.5, lambda_side=0.25)
    terms = loss.terms(outputs, targets)
    box = attention_loss(outputs["scores"][:, 0], targets["box_mask"][:, 0]).mean()
    side = attention_loss(outputs["scores"][:, 1], targets["side_mask"][:, 0]).mean()
    assert terms["risk_loss"].item() == pytest.approx(math.log(2))
    torch.testing.assert_close(terms["box_loss"], box)
    torch.testing.assert_close(terms["side_loss"], side)
    torch.testing.assert_close(loss(outputs, targets), terms["risk_loss"] + 0.5 * box + 0.25 * side)


def test_a_term_switched_off_reaches_no_score() -> None:
    outputs, targets = _batch()
    RiskAttentionLoss(lambda_box=0.0, lambda_side=0.0)(outputs, targets).backward()
    assert outputs["scores"].grad is None
    assert outputs["logits"].grad is not None


def test_a_batch_without_any_mask_trains() -> None:
    outputs, targets = _batch()
    targets["box_mask"].zero_()
    targets["side_mask"].zero_()
    loss = RiskAttentionLoss(lambda_box=1.0, lambda_side=1.0)(outputs, targets)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert outputs["logits"].grad is not None


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 0 or more, got -1 and 0"):
        RiskAttentionLoss(lambda_box=-1, lambda_side=0)
