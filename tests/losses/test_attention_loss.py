from __future__ import annotations

import math

import pytest
import torch

from losses import AttentionLoss, attention_loss


def test_the_lectures_example() -> None:
    weights = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    mask = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    assert attention_loss(weights.log(), mask).item() == pytest.approx(-math.log(0.6), abs=1e-6)
    assert round(attention_loss(weights.log(), mask).item(), 4) == 0.5108


def test_equals_the_naive_form_with_fractions_in_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 5, 6, generator=generator)
    mask = torch.rand(3, 4, 5, 6, generator=generator).round(decimals=1)
    weights = scores.flatten(1).softmax(dim=1).view_as(scores)
    naive = -(weights * mask).flatten(1).sum(dim=1).log()
    torch.testing.assert_close(attention_loss(scores, mask), naive)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_exact_on_the_lectures_feature_grid(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = (3 * torch.randn(1, 128, 128, 50, generator=generator)).to(dtype)
    mask = torch.zeros(1, 128, 128, 50)
    mask[:, 60:64, 40:43, 20:22] = 1
    reference = -scores.double().flatten().log_softmax(dim=0)[mask.flatten() > 0].logsumexp(dim=0)
    assert attention_loss(scores, mask).double().item() == pytest.approx(reference.item(), abs=1e-5)


def test_a_wrong_voxel_120_logits_ahead_still_leaves_a_gradient() -> None:
    scores = torch.zeros(1, 10, 10, 10)
    scores[0, 0, 0, 0] = 120
    scores.requires_grad_()
    mask = torch.zeros(1, 10, 10, 10)
    mask[0, 5, 5, 5] = 1
    loss = attention_loss(scores, mask)
    loss.sum().backward()
    assert loss.item() == pytest.approx(120, abs=1e-3)
    assert scores.grad is not None
    assert scores.grad[0, 0, 0, 0].item() == pytest.approx(1, abs=1e-5)
    assert scores.grad[0, 5, 5, 5].item() == pytest.approx(-1, abs=1e-5)


def test_perfect_attention_costs_nothing() -> None:
    scores = torch.full((1, 4, 4), -300.0)
    mask = torch.zeros(1, 4, 4)
    scores[0, 1, 1], mask[0, 1, 1] = 300, 1
    assert attention_loss(scores, mask).item() == 0


def test_an_empty_mask_costs_nothing_and_moves_nothing() -> None:
    scores = torch.randn(2, 3, 3, requires_grad=True)
    mask = torch.zeros(2, 3, 3)
    mask[1, 0, 0] = 1
    loss = attention_loss(scores, mask)
    loss.sum().backward()
    assert loss[0].item() == 0
    assert scores.grad is not None
    assert scores.grad[0].abs().max().item() == 0
    assert scores.grad[1].abs().max().item() > 0


def test_the_gradient_is_the_numeric_one() -> None:
    scores = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(2, 3, 4)
    mask[0, 1, 1:3] = 1
    assert torch.autograd.gradcheck(lambda s: attention_loss(s, mask), scores)


def test_autocast_does_not_lower_its_precision() -> None:
    scores = torch.linspace(-5, 5, 1000).view(1, 10, 100)
    mask = torch.zeros(1, 10, 100)
    mask[0, 9] = 1
    plain = attention_loss(scores, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention_loss(scores, mask), plain)


def test_cross_entropy_per_voxel_has_no_good_solution() -> None:
    """Perfect attention, spread over the mask, still costs the per-voxel form; ours it does not."""
    mask = torch.zeros(1, 8, 8)
    mask[0, :2] = 1
    weights = mask / mask.sum()
    per_voxel = torch.nn.functional.binary_cross_entropy(weights, mask, reduction="sum")
    assert per_voxel.item() > 40
    assert attention_loss((weights + 1e-30).log(), mask).item() == pytest.approx(0, abs=1e-5)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        attention_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def test_the_module_takes_one_head_and_means_over_the_batch() -> None:
    scores = torch.randn(2, 3, 4, 4)
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 2, 2] = 1
    expected = attention_loss(scores[:, 1], mask[:, 0]).sum() / 2
    torch.testing.assert_close(AttentionLoss(head=1)(scores, mask), expected)
    with pytest.raises(ValueError, match="head must be below the number of heads, got 3 of 3"):
        AttentionLoss(head=3)(scores, mask)
