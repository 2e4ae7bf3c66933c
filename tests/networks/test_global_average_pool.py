from __future__ import annotations

import pytest
import torch

from networks import GlobalAveragePool


def test_hand_value_and_gradient() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, -4.0]]]])
    features.requires_grad_()
    pooled = GlobalAveragePool()(features)
    torch.testing.assert_close(pooled, torch.tensor([[[3.0, -1.0]]]))
    pooled.sum().backward()
    torch.testing.assert_close(features.grad, torch.full((1, 2, 2, 2), 0.25))


def test_each_sample_by_itself_in_three_dimensions() -> None:
    features = torch.arange(2 * 3 * 8.0).view(2, 3, 2, 2, 2)
    expected = torch.tensor([[[3.5, 11.5, 19.5]], [[27.5, 35.5, 43.5]]])
    torch.testing.assert_close(GlobalAveragePool()(features), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_constant_map_of_a_whole_scan_gives_that_constant(dtype: torch.dtype) -> None:
    features = torch.full((1, 1, 128, 128, 50), 0.75, dtype=dtype)
    pooled = GlobalAveragePool()(features)
    torch.testing.assert_close(pooled, torch.full((1, 1, 1), 0.75, dtype=dtype))
