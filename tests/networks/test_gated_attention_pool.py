from __future__ import annotations

import math

import pytest
import torch

from networks import AttentionPool, GatedAttentionPool


def test_hand_value() -> None:
    pool = GatedAttentionPool(spatial_dims=2, in_channels=1, heads=1, hidden_features=1)
    with torch.no_grad():
        for convolution, weight, bias in ((pool.hidden, 1.0, 0.0), (pool.gate, 0.0, math.log(3))):
            convolution.weight.fill_(weight)
            convolution.bias.fill_(bias)
        pool.score.weight.fill_(4.0)
    # z = artanh(1/3) is ln(2) / 2; the gate is 3/4, so the scores are 4 * 3/4 * (0, 1/3) = (0, 1).
    z = math.log(2) / 2
    pooled, scores = pool(torch.tensor([[[[0.0, z]]]]))
    torch.testing.assert_close(scores, torch.tensor([[[[0.0, 1.0]]]]))
    torch.testing.assert_close(pooled, torch.tensor([[[z * math.e / (1 + math.e)]]]))


@pytest.mark.parametrize("shape", [(1, 4, 3, 2), (2, 4, 3, 2), (1, 4, 3, 2, 5), (2, 4, 3, 2, 5)])
def test_equals_a_loop_over_voxels(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    pool = GatedAttentionPool(
        spatial_dims=len(shape) - 2, in_channels=4, heads=3, hidden_features=6
    )
    features = torch.randn(shape)
    pooled, scores = pool(features)
    assert scores.shape == (shape[0], 3, *shape[2:])
    V, U, w = (c.weight.flatten(1) for c in (pool.hidden, pool.gate, pool.score))
    for b in range(shape[0]):
        for head in range(3):
            weights, total = [], torch.zeros(4)
            for z in features[b].flatten(1).T:
                gated = (V @ z + pool.hidden.bias).tanh() * (U @ z + pool.gate.bias).sigmoid()
                weights.append((w[head] @ gated).exp())
                total += weights[-1] * z
            torch.testing.assert_close(pooled[b, head], total / sum(weights))
            torch.testing.assert_close(scores[b, head].flatten(), torch.stack(weights).log())


def test_constant_map_gives_that_constant_and_even_scores() -> None:
    pool = GatedAttentionPool(spatial_dims=3, in_channels=2, heads=2, hidden_features=3)
    pooled, scores = pool(torch.full((1, 2, 4, 3, 2), 0.7))
    torch.testing.assert_close(pooled, torch.full((1, 2, 2), 0.7))
    torch.testing.assert_close(scores, scores[:, :, :1, :1, :1].expand_as(scores))


def test_every_weight_receives_a_gradient() -> None:
    torch.manual_seed(0)
    pool = GatedAttentionPool(spatial_dims=3, in_channels=4, heads=2, hidden_features=3)
    pool(torch.randn(2, 4, 3, 3, 3))[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-4 for p in pool.parameters())


def test_half_precision_keeps_small_weights() -> None:
    pool = GatedAttentionPool(spatial_dims=3, in_channels=2, heads=1, hidden_features=2)
    pooled, _ = pool.to(torch.bfloat16)(torch.ones(1, 2, 64, 64, 32, dtype=torch.bfloat16))
    torch.testing.assert_close(pooled.float(), torch.ones(1, 1, 2), atol=0.02, rtol=0)


def test_shares_its_interface_with_attention_pool() -> None:
    features = torch.randn(2, 4, 3, 2)
    plain = AttentionPool(spatial_dims=2, in_channels=4, heads=3)(features)
    gated = GatedAttentionPool(spatial_dims=2, in_channels=4, heads=3, hidden_features=5)(features)
    assert [t.shape for t in gated] == [t.shape for t in plain]


@pytest.mark.parametrize("name", ["heads", "hidden_features"])
def test_no_head_and_no_hidden_feature_are_refused(name: str) -> None:
    sizes = {"heads": 1, "hidden_features": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        GatedAttentionPool(spatial_dims=3, in_channels=4, **sizes)
