from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from losses import attention_loss, lesion_attention_loss, lesion_floor


def cells(*lesions: str) -> torch.Tensor:
    """Lesions drawn as text, ``x`` in the lesion."""
    return torch.tensor([[letter == "x" for letter in lesion] for lesion in lesions])


def naive(scores: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Float64, and the floor of lesions apart."""
    costs = []
    for sample, lesions in zip(scores.double(), masks, strict=True):
        weights = sample.flatten().softmax(dim=0).view_as(sample)
        kept = [lesion for lesion in lesions if lesion.any()]
        masses = torch.stack([-weights[lesion > 0].sum().log() for lesion in kept])
        costs.append(masses.mean() - math.log(len(kept)))
    return torch.stack(costs)


def apart() -> torch.Tensor:
    masks = torch.zeros(2, 4, 6, 5, 4, dtype=torch.uint8)
    masks[0, 0, :2, :2], masks[0, 1, 4:, :2], masks[0, 3, 3, 4, :2] = 1, 1, 1
    masks[1, 2, 0, 0, 0] = 1
    return masks


def test_equals_the_naive_form_for_lesions_apart() -> None:
    scores = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    loss = lesion_attention_loss(scores, apart())
    torch.testing.assert_close(loss.double(), naive(scores, apart()), atol=1e-6, rtol=1e-6)


def test_one_lesion_is_the_attention_loss() -> None:
    scores = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 3, 8, 8)
    masks[0, 1, 2:4, 3], masks[1, 0, 7] = 1, 1
    torch.testing.assert_close(
        lesion_attention_loss(scores, masks), attention_loss(scores, masks.sum(dim=1))
    )


def test_no_lesion_costs_nothing_and_moves_nothing() -> None:
    scores = torch.randn(2, 8, 8, requires_grad=True)
    masks = torch.zeros(2, 2, 8, 8)
    masks[1, :, 0, :2] = torch.eye(2)
    loss = lesion_attention_loss(scores, masks)
    loss.sum().backward()
    assert loss[0].item() == 0 and loss[1].item() > 0
    assert scores.grad is not None
    assert scores.grad[0].abs().max().item() == 0 and scores.grad[1].abs().max().item() > 0


def test_one_lesion_cannot_satisfy_all() -> None:
    """The lecture's three maps: all on one lesion, all on the other, shared; A marks both."""
    masks = torch.zeros(1, 2, 3, 3)
    masks[0, 0, 1, 0], masks[0, 1, 1, 2] = 1, 1
    scores = torch.full((3, 3, 3), -50.0)
    scores[0, 1, 0], scores[1, 1, 2] = 50, 50
    scores[2, 1, 0], scores[2, 1, 2] = 50, 50
    maps = [scores[index : index + 1] for index in range(3)]
    union = masks.sum(dim=1)
    assert [attention_loss(each, union).item() for each in maps] == [0, 0, 0]
    one, other, shared = (lesion_attention_loss(each, masks).item() for each in maps)
    assert shared == pytest.approx(0, abs=1e-6)
    # Half of a lesion 100 nats away, less the floor.
    assert one == other == pytest.approx(50 - math.log(2), abs=1e-4)


def test_a_tenth_on_one_lesion_by_hand() -> None:
    weights = torch.tensor([[0.9, 0.1, 1e-9]])
    masks = torch.tensor([[[1, 0, 0], [0, 1, 0]]])
    expected = -(math.log(0.9) + math.log(0.1)) / 2 - math.log(2)
    assert lesion_attention_loss(weights.log(), masks).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_is_exact_on_a_large_grid(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = (3 * torch.randn(1, 128, 128, 50, generator=generator)).to(dtype)
    masks = torch.zeros(1, 3, 128, 128, 50, dtype=torch.uint8)
    for lesion in range(3):
        masks[0, lesion, 40 * lesion : 40 * lesion + 4, 40:43, 20:22] = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = lesion_attention_loss(scores, masks)
    assert loss.double().item() == pytest.approx(naive(scores, masks).item(), abs=1e-5)


def test_a_wrong_voxel_120_logits_ahead_pulls_on_every_lesion() -> None:
    scores = torch.zeros(1, 1000)
    scores[0, 0] = 120
    scores.requires_grad_()
    masks = torch.zeros(1, 2, 1000)
    masks[0, 0, 10], masks[0, 1, 20] = 1, 1
    lesion_attention_loss(scores, masks).sum().backward()
    assert scores.grad is not None
    assert scores.grad[0, [0, 10, 20]].tolist() == pytest.approx([1, -0.5, -0.5], abs=1e-5)


def test_the_gradient_is_the_numeric_one_where_lesions_overlap() -> None:
    scores = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.zeros(1, 2, 3, 4)
    masks[0, 0, 1, 1:3], masks[0, 1, 1, 2:] = 1, 1
    assert torch.autograd.gradcheck(lambda s: lesion_attention_loss(s, masks), scores)


@pytest.mark.parametrize(
    ("lesions", "best_masses"),
    [
        (cells("x..", ".x.", "..x"), (1 / 3, 1 / 3, 1 / 3)),
        (cells("xx.", ".xx"), (1, 1)),
        (cells("xxx", ".x."), (1, 1)),
        # A pair that shares a cell, and one apart: the shared cell serves two of three.
        (cells("xx..", ".x..", "...x"), (2 / 3, 2 / 3, 1 / 3)),
        # Every two of three share a cell: a third in each, so two thirds for each lesion.
        (cells("xx.", "x.x", ".xx"), (2 / 3, 2 / 3, 2 / 3)),
        (cells("xx"), (1,)),
    ],
)
def test_the_floor_by_hand(lesions: torch.Tensor, best_masses: tuple[float, ...]) -> None:
    expected = -sum(map(math.log, best_masses)) / len(best_masses)
    assert lesion_floor(lesions) == pytest.approx(expected, abs=2e-6)


def test_the_floor_of_nothing_is_zero() -> None:
    assert lesion_floor(torch.zeros(0, 5, dtype=torch.bool)) == 0


def test_the_floor_is_that_of_a_general_solver() -> None:
    rng = np.random.default_rng(3)
    for _ in range(25):
        count, size = int(rng.integers(2, 7)), int(rng.integers(2, 25))
        lesions = rng.random((count, size)) < rng.uniform(0.1, 0.7)
        lesions[np.arange(count), rng.integers(0, size, count)] = True
        table = lesions.astype(float)

        def cost(weights: np.ndarray, table: np.ndarray = table) -> float:
            return float(-np.log(np.maximum(table @ weights, 1e-300)).mean())

        solved = minimize(
            cost,
            np.full(size, 1 / size),
            bounds=[(0, 1)] * size,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert lesion_floor(torch.from_numpy(lesions)) == pytest.approx(solved.fun, abs=2e-5)


def test_attention_that_serves_overlapping_lesions_best_costs_nothing() -> None:
    """Descends the loss itself: it ends at zero, above none of which it ever lies below."""
    masks = torch.zeros(1, 3, 12)
    masks[0, 0, :4], masks[0, 1, 2:6], masks[0, 2, 8:10] = 1, 1, 1
    scores = torch.zeros(1, 12, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = lesion_attention_loss(scores, masks).sum()
        assert loss.item() >= 0
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3
    weights = scores.detach().softmax(dim=1)[0]
    assert weights[2:4].sum().item() == pytest.approx(2 / 3, abs=0.03)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"axis of lesions .* got \(1, 4, 4\) for \(1, 4, 4\)"):
        lesion_attention_loss(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"got \(1, 2, 4, 5\) for \(1, 4, 4\)"):
        lesion_attention_loss(torch.zeros(1, 4, 4), torch.zeros(1, 2, 4, 5))
