from __future__ import annotations

import math

import pytest
import torch

from losses import AttentionLoss, attention_loss, lesion_attention_loss


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


@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_exact_on_the_lectures_feature_grid(dtype: torch.dtype, mask_dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = (3 * torch.randn(1, 128, 128, 50, generator=generator)).to(dtype)
    mask = torch.zeros(1, 128, 128, 50, dtype=mask_dtype)
    mask[:, 60:64, 40:43, 20:22] = 1
    reference = -scores.double().flatten().log_softmax(dim=0)[mask.flatten() > 0].logsumexp(dim=0)
    assert attention_loss(scores, mask).double().item() == pytest.approx(reference.item(), abs=1e-5)


def test_the_gradient_is_exact_on_the_lectures_feature_grid() -> None:
    scores = 3 * torch.randn(1, 819_200, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 819_200)
    mask[0, 400_000:400_020] = 1
    ours, exact = scores.clone().requires_grad_(), scores.double().requires_grad_()
    attention_loss(ours, mask).sum().backward()
    (-(exact.softmax(dim=1) * mask).sum(dim=1).log()).sum().backward()
    assert ours.grad is not None and exact.grad is not None
    # The plain softmax's own sum is off by 5e-5 here.
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=5e-6, atol=1e-12)


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
    # What is at stake: the naive form is infinite there, and guarded forms are flat.
    weights = scores.flatten().softmax(dim=0).view_as(scores)
    mass = (weights * mask).sum()
    assert (-mass.log()).item() == math.inf
    for guarded in (-(mass + 1e-8).log(), -mass.clamp(min=1e-8).log()):
        (gradient,) = torch.autograd.grad(guarded, scores, retain_graph=True)
        assert gradient.abs().max().item() < 1e-30


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_gradient_of_half_precision_scores_is_that_of_float32(dtype: torch.dtype) -> None:
    scores = torch.linspace(-4, 4, 60).view(1, 3, 20).to(dtype)
    mask = torch.zeros(1, 3, 20)
    mask[0, 0, :9] = 1
    half, full = scores.clone().requires_grad_(), scores.float().requires_grad_()
    attention_loss(half, mask).sum().backward()
    attention_loss(full, mask).sum().backward()
    assert half.grad is not None and full.grad is not None
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad.float(), full.grad, atol=1e-6, rtol=1e-2)


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
    """Weights sum to one, so even perfect attention costs it, the more the larger the lesion."""
    mask = torch.zeros(1, 8, 8)
    mask[0, :2] = 1

    def per_voxel(weights: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy(weights, mask, reduction="sum")

    perfect = mask / mask.sum()
    # 16 voxels of 1/16 each, where the form wants a one in every one of them.
    expected = 16 * math.log(16)
    assert per_voxel(perfect).item() == pytest.approx(expected, rel=1e-4)
    assert attention_loss((perfect + 1e-30).log(), mask).item() == pytest.approx(0, abs=1e-5)
    # It grows with the lesion although the attention stays perfect; ours does not.
    mask[0, :4] = 1
    assert per_voxel(mask / mask.sum()).item() > 2 * expected
    # And it calls attention on one voxel of the lesion, inside all the same, worse than none.
    one, even = torch.zeros(1, 8, 8), torch.full((1, 8, 8), 1 / 64)
    one[0, 0, 0] = 1
    assert per_voxel(one) > 10 * per_voxel(even)
    assert attention_loss((one + 1e-30).log(), mask).item() == pytest.approx(0, abs=1e-5)
    assert attention_loss(even.log(), mask).item() == pytest.approx(math.log(2))


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


def test_a_mask_of_lesions_counts_as_their_union() -> None:
    scores = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    masks = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    masks[0, 0, :2], masks[0, 1, 1:3], masks[1, 2, 3, 3] = 1, 1, 1
    union = masks.any(dim=1)
    expected = attention_loss(scores[:, 0], union).mean()
    torch.testing.assert_close(AttentionLoss(0)(scores, masks), expected)
    apart = lesion_attention_loss(scores[:, 0], masks).mean()
    torch.testing.assert_close(AttentionLoss(0, per_lesion=True)(scores, masks), apart)
    assert apart > expected


def test_cells_are_found_in_maps_of_any_size() -> None:
    generator = torch.Generator().manual_seed(6)
    for size in (1, 5, 1023, 1024, 1025, 3000):
        mask = (torch.rand(3, size, generator=generator) < 0.01).float()
        mask[1] = 0
        mask[2, -1] = 0.5
        scores = torch.randn(3, size, generator=generator)
        naive = -(scores.softmax(dim=1) * mask).sum(dim=1).log()
        expected = torch.where(mask.any(dim=1), naive, 0)
        torch.testing.assert_close(attention_loss(scores, mask), expected)
