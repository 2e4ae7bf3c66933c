from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from losses import RiskAttentionLoss, attention_loss, lesion_attention_loss, yearly_risk_loss


def _batch() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    outputs = {
        "logits": torch.zeros(2, 1, requires_grad=True),
        "scores": torch.randn(2, 2, 4, 4, 4, generator=generator).requires_grad_(),
    }
    box = torch.zeros(2, 2, 4, 4, 4, dtype=torch.uint8)
    box[0, 0, 1, 1, 1] = 1
    box[0, 1, 3, 3] = 1
    side = torch.zeros(2, 1, 4, 4, 4, dtype=torch.uint8)
    side[0, 0, :2] = 1
    return outputs, {
        "risk": torch.tensor([[1.0], [0.0]]),
        "risk_known": torch.ones(2, 1),
        "box_mask": box,
        "lost_boxes": torch.tensor([0, 0]),
        "side_mask": side,
        "patient_id": ["a", "b"],
    }


def test_the_total_is_the_weighted_sum_of_its_terms() -> None:
    outputs, targets = _batch()
    loss = RiskAttentionLoss(lambda_box=0.5, lambda_side=0.25)
    terms = loss.terms(outputs, targets)
    union = targets["box_mask"].amax(dim=1)
    box = attention_loss(outputs["scores"][:, 0], union).mean()
    side = attention_loss(outputs["scores"][:, 1], targets["side_mask"][:, 0]).mean()
    assert next(iter(terms)) == "loss"
    assert set(terms) == {
        *("loss", "risk_loss", "box_loss", "side_loss"),
        *("box_share", "side_share", "fallback_share"),
    }
    assert terms["risk_loss"].item() == pytest.approx(math.log(2))
    torch.testing.assert_close(terms["box_loss"], box)
    torch.testing.assert_close(terms["side_loss"], side)
    torch.testing.assert_close(loss(outputs, targets), terms["risk_loss"] + 0.5 * box + 0.25 * side)
    assert all(value.ndim == 0 for value in terms.values())
    shares = [terms[name].item() for name in ("box_share", "side_share", "fallback_share")]
    assert shares == [0.5, 0.5, 0]


def test_each_lesion_for_itself_where_that_is_asked_for() -> None:
    outputs, targets = _batch()
    terms = RiskAttentionLoss(1, 0, per_lesion=True).terms(outputs, targets)
    expected = lesion_attention_loss(outputs["scores"][:, 0], targets["box_mask"]).mean()
    torch.testing.assert_close(terms["box_loss"], expected)
    assert expected != RiskAttentionLoss(1, 0).terms(outputs, targets)["box_loss"]


def test_yearly_risk_heeds_what_is_known() -> None:
    outputs, targets = _batch()
    outputs["logits"] = torch.randn(2, 3)
    targets["risk"] = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, math.nan]])
    targets["risk_known"] = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    terms = RiskAttentionLoss(0, 0).terms(outputs, targets)
    expected = yearly_risk_loss(outputs["logits"], targets["risk"], targets["risk_known"])
    assert torch.equal(terms["risk_loss"], expected) and torch.isfinite(expected)


@pytest.mark.parametrize("per_lesion", [False, True])
def test_boxes_that_a_crop_lost_fall_back_to_the_side(per_lesion: bool) -> None:
    outputs, targets = _batch()
    targets["side_mask"][1, 0, 2:] = 1
    targets["lost_boxes"] = torch.tensor([1, 2])
    before = targets["box_mask"].clone()
    terms = RiskAttentionLoss(1, 0, per_lesion=per_lesion).terms(outputs, targets)
    # The first has boxes left, the second none.
    masks = targets["box_mask"].clone()
    masks[1, 0] = targets["side_mask"][1, 0]
    form = lesion_attention_loss if per_lesion else attention_loss
    expected = form(outputs["scores"][:, 0], masks if per_lesion else masks.amax(dim=1)).mean()
    torch.testing.assert_close(terms["box_loss"], expected)
    assert terms["box_share"].item() == 1 and terms["fallback_share"].item() == 0.5
    assert torch.equal(targets["box_mask"], before)


def test_nothing_to_fall_back_to_adds_nothing() -> None:
    outputs, targets = _batch()
    targets["lost_boxes"] = torch.tensor([0, 1])
    terms = RiskAttentionLoss(1, 0).terms(outputs, targets)
    assert terms["fallback_share"].item() == 0 and terms["box_share"].item() == 0.5
    del targets["side_mask"]
    alone = RiskAttentionLoss(1, 0).terms(outputs, targets)
    assert torch.equal(alone["box_loss"], terms["box_loss"])
    assert alone["fallback_share"].item() == 0


def test_a_scan_without_a_lost_box_does_not_fall_back() -> None:
    outputs, targets = _batch()
    targets["side_mask"][1, 0, 2:] = 1
    terms = RiskAttentionLoss(1, 0).terms(outputs, targets)
    assert terms["fallback_share"].item() == 0 and terms["box_share"].item() == 0.5


def test_a_network_with_one_head_has_no_side_term() -> None:
    outputs, targets = _batch()
    outputs["scores"] = outputs["scores"][:, :1]
    terms = RiskAttentionLoss(lambda_box=1, lambda_side=0).terms(outputs, targets)
    assert set(terms) == {"loss", "risk_loss", "box_loss", "box_share", "fallback_share"}
    with pytest.raises(ValueError, match=r"0 without a second head .* got 0\.1 with 1"):
        RiskAttentionLoss(1, 0.1)(outputs, targets)


def test_a_side_weight_needs_a_side_mask() -> None:
    outputs, targets = _batch()
    del targets["side_mask"]
    assert "side_loss" not in RiskAttentionLoss(1, 0).terms(outputs, targets)
    with pytest.raises(ValueError, match=r"lambda_side must be 0 .* a side mask, got 0\.1"):
        RiskAttentionLoss(1, 0.1)(outputs, targets)


def test_a_term_switched_off_reaches_no_score() -> None:
    outputs, targets = _batch()
    RiskAttentionLoss(lambda_box=0.0, lambda_side=0.0)(outputs, targets).backward()
    assert outputs["scores"].grad is None
    assert outputs["logits"].grad is not None


def test_terms_stay_on_their_own_heads() -> None:
    for weights, head in (((1.0, 0.0), 0), ((0.0, 1.0), 1)):
        outputs, targets = _batch()
        RiskAttentionLoss(*weights)(outputs, targets).backward()
        gradient = outputs["scores"].grad
        assert gradient is not None
        assert gradient[:, head].any() and not gradient[:, 1 - head].any()


def test_a_batch_without_any_mask_trains() -> None:
    outputs, targets = _batch()
    targets["box_mask"].zero_()
    targets["side_mask"].zero_()
    loss = RiskAttentionLoss(lambda_box=1.0, lambda_side=1.0)(outputs, targets)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert outputs["logits"].grad is not None


@pytest.mark.parametrize("lambda_box", [-1, math.nan])
def test_a_weight_below_zero_is_refused(lambda_box: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0 or more, got .* and 0"):
        RiskAttentionLoss(lambda_box=lambda_box, lambda_side=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["logits", "scores"])
def test_an_output_that_is_not_finite_is_refused_by_the_name_of_its_scan(
    name: str, value: float
) -> None:
    outputs, targets = _batch()
    broken = outputs[name].detach().clone()
    broken[0].view(-1)[0] = value
    with pytest.raises(ValueError, match=r"the loss must be finite, got \S+ with scans \['a'\]"):
        RiskAttentionLoss(1, 1)({**outputs, name: broken}, targets)
