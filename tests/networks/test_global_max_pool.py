from __future__ import annotations

import torch

from networks import GlobalMaxPool


def test_hand_value_and_gradient() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-1.0, -9.0], [-5.0, -4.0]]]])
    features.requires_grad_()
    pooled = GlobalMaxPool()(features)
    torch.testing.assert_close(pooled, torch.tensor([[[6.0, -1.0]]]))
    pooled.sum().backward()
    expected = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    torch.testing.assert_close(features.grad, expected)


def test_each_sample_by_itself_in_three_dimensions() -> None:
    features = torch.arange(2 * 3 * 8.0).view(2, 3, 2, 2, 2)
    expected = torch.tensor([[[7.0, 15.0, 23.0]], [[31.0, 39.0, 47.0]]])
    torch.testing.assert_close(GlobalMaxPool()(features), expected)


def test_constant_map_gives_that_constant_and_shares_the_gradient() -> None:
    features = torch.full((1, 1, 2, 2), -0.5, requires_grad=True)
    pooled = GlobalMaxPool()(features)
    torch.testing.assert_close(pooled, torch.full((1, 1, 1), -0.5))
    pooled.sum().backward()
    torch.testing.assert_close(features.grad, torch.full((1, 1, 2, 2), 0.25))
