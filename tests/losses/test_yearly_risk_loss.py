from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from losses import yearly_risk_loss


def test_one_known_year_is_plain_cross_entropy() -> None:
    logits = torch.tensor([[0.3], [-2.0], [5.0]])
    risk = torch.tensor([[1.0], [0.0], [0.0]])
    expected = binary_cross_entropy_with_logits(logits, risk)
    assert torch.equal(yearly_risk_loss(logits, risk, torch.ones(3, 1)), expected)


def test_by_hand_with_a_year_unknown() -> None:
    logits = torch.tensor([[0.0, math.log(3), 9.0]])
    risk = torch.tensor([[0.0, 1.0, 0.0]])
    known = torch.tensor([[1.0, 1.0, 0.0]])
    # log 2 for an even chance, -log 3/4 for a hit; the third year is unknown; divided by three.
    expected = (math.log(2) - math.log(0.75)) / 3
    assert yearly_risk_loss(logits, risk, known).item() == pytest.approx(expected, abs=1e-6)


def test_garbage_in_unknown_entries_reaches_neither_loss_nor_gradient() -> None:
    logits = torch.tensor([[0.5, math.nan], [math.inf, -1.0]], requires_grad=True)
    risk = torch.tensor([[1.0, math.nan], [-7.0, 0.0]])
    known = torch.tensor([[1, 0], [0, 1]])
    loss = yearly_risk_loss(logits, risk, known)
    loss.backward()
    expected = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-1))) / 4
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad[0, 1].item() == 0 and logits.grad[1, 0].item() == 0
    assert torch.isfinite(logits.grad).all()


def test_nobody_followed_costs_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = yearly_risk_loss(logits, torch.zeros(2, 3), torch.zeros(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_a_batch_is_the_mean_of_its_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    risk = (torch.rand(6, 4, generator=generator) < 0.5).float()
    known = (torch.rand(6, 4, generator=generator) < 0.5).float()
    parts = [
        yearly_risk_loss(logits[i : i + 2], risk[i : i + 2], known[i : i + 2]) for i in (0, 2, 4)
    ]
    torch.testing.assert_close(yearly_risk_loss(logits, risk, known), torch.stack(parts).mean())


def test_half_precision_is_widened() -> None:
    logits = torch.tensor([[3.0]], dtype=torch.bfloat16)
    loss = yearly_risk_loss(logits, torch.ones(1, 1), torch.ones(1, 1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-3)), abs=1e-6)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\), \(2, 1\) and \(2, 3\)"):
        yearly_risk_loss(torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 3))
