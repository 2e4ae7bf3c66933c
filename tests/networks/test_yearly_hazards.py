from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from networks import YearlyHazards


def _layer(base: float, hazards: list[float]) -> YearlyHazards:
    """A layer on one feature, with these pre-activations where the feature is 1."""
    layer = YearlyHazards(1, len(hazards) + 1)
    with torch.no_grad():
        layer.base.weight.fill_(base)
        layer.hazards.weight.copy_(torch.tensor(hazards).unsqueeze(1))
        layer.base.bias.zero_()
        layer.hazards.bias.zero_()
    return layer


def test_hand_value() -> None:
    # softplus(ln(e - 1)) = 1 and softplus(0) = ln 2.
    logits = _layer(-2.0, [math.log(math.e - 1), 0.0])(torch.ones(1, 1))
    torch.testing.assert_close(logits, torch.tensor([[-2.0, -1.0, -1.0 + math.log(2)]]))


def test_equals_a_loop_over_years_and_never_falls() -> None:
    torch.manual_seed(0)
    layer = YearlyHazards(5, 6)
    features = 20 * torch.randn(64, 5)
    logits = layer(features)
    assert (logits.diff(dim=1) >= 0).all()
    for x, row in zip(features, logits, strict=True):
        logit = layer.base(x)[0]
        for year, value in enumerate(row):
            if year:
                weight, bias = layer.hazards.weight[year - 1], layer.hazards.bias[year - 1]
                logit = logit + torch.logaddexp(weight @ x + bias, torch.zeros(()))
            torch.testing.assert_close(value, logit)


def test_separates_years_and_learns_where_relu_hazards_die() -> None:
    layer = _layer(0.5, [-8.0, -8.0, -8.0, -8.0, -8.0])
    features = torch.ones(1, 1)
    logits = layer(features)
    logits[0, -1].backward()
    assert (logits.diff(dim=1) > 3e-4).all()
    torch.testing.assert_close(
        layer.hazards.bias.grad, torch.full((5,), 1 / (1 + math.exp(8))), atol=0, rtol=1e-5
    )
    layer.zero_grad()
    relu = layer.base(features) + layer.hazards(features).relu().cumsum(dim=1)
    relu[0, -1].backward()
    assert relu.unique().tolist() == [0.5]
    torch.testing.assert_close(layer.hazards.bias.grad, torch.zeros(5))


def test_half_precision_keeps_small_hazards() -> None:
    logits = _layer(-4.0, [-8.0, -8.0]).to(torch.bfloat16)(torch.ones(1, 1, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert (logits.diff(dim=1) > 3e-4).all()


def test_no_features_leave_the_biases() -> None:
    layer = YearlyHazards(3, 2)
    nn.init.constant_(layer.base.bias, 1.0)
    nn.init.constant_(layer.hazards.bias, 0.0)
    expected = torch.tensor([[1.0, 1.0 + math.log(2)]])
    torch.testing.assert_close(layer(torch.zeros(1, 3)), expected)


def test_one_year_is_refused() -> None:
    with pytest.raises(ValueError, match="years must be at least 2, got 1"):
        YearlyHazards(4, 1)


def test_untrained_years_lie_close_together() -> None:
    torch.manual_seed(0)
    logits = YearlyHazards(8, 6)(torch.randn(64, 8))
    assert (logits[:, -1] - logits[:, 0]).mean() < 1
