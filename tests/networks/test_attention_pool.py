from __future__ import annotations

import pytest
import torch

from networks import AttentionPool
from networks.attention_pool import attention_average


def test_equals_a_loop_over_voxels() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(spatial_dims=3, in_channels=4, heads=3)
    features = torch.randn(2, 4, 3, 2, 5)
    pooled, scores = pool(features)
    for b in range(2):
        for head in range(3):
            weight, total = scores[b, head].exp(), torch.zeros(4)
            weight = weight / weight.sum()
            for i in range(3):
                for j in range(2):
                    for k in range(5):
                        total += weight[i, j, k] * features[b, :, i, j, k]
            torch.testing.assert_close(pooled[b, head], total)


def test_two_dimensions_and_even_scores_give_the_mean() -> None:
    pool = AttentionPool(spatial_dims=2, in_channels=4, heads=1)
    torch.nn.init.zeros_(pool.score.weight)
    features = torch.randn(1, 4, 6, 7)
    pooled, scores = pool(features)
    assert scores.shape == (1, 1, 6, 7)
    torch.testing.assert_close(pooled[0, 0], features.mean(dim=(2, 3))[0])


def test_half_precision_keeps_small_weights() -> None:
    pool = AttentionPool(spatial_dims=3, in_channels=2, heads=1).to(torch.bfloat16)
    torch.nn.init.zeros_(pool.score.weight)
    pooled, _ = pool(torch.ones(1, 2, 64, 64, 32, dtype=torch.bfloat16))
    torch.testing.assert_close(pooled.float(), torch.ones(1, 1, 2), atol=0.02, rtol=0)


def test_no_head_is_refused() -> None:
    with pytest.raises(ValueError, match="heads must be at least 1, got 0"):
        AttentionPool(spatial_dims=3, in_channels=4, heads=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_even_weights_over_a_whole_scan_add_up_to_one_in_half_precision(
    dtype: torch.dtype,
) -> None:
    features, scores = (torch.full((1, 1, 819_200), value, dtype=dtype) for value in (1.0, 0.0))
    with torch.autocast("cpu", dtype=dtype):
        average = attention_average(features, scores)
    assert average.dtype == dtype
    assert average.item() == pytest.approx(1, abs=1e-3)
