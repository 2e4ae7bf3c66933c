from __future__ import annotations

import torch

from networks import RiskClassifier


def _network(spatial_dims: int) -> RiskClassifier:
    torch.manual_seed(0)
    return RiskClassifier(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        heads=2,
        hidden_features=8,
    )


def test_one_tensor_of_logits_unless_attention_is_asked_for() -> None:
    network = _network(spatial_dims=3).eval()
    image = torch.randn(2, 1, 16, 12, 8)
    logits = network(image)
    outputs = network(image, with_attention=True)
    assert logits.shape == (2, 1)
    assert outputs["scores"].shape == (2, 2, 4, 3, 2)
    torch.testing.assert_close(outputs["logits"], logits)


def test_two_dimensions() -> None:
    outputs = _network(spatial_dims=2)(torch.randn(2, 1, 16, 12), with_attention=True)
    assert outputs["logits"].shape == (2, 1)
    assert outputs["scores"].shape == (2, 2, 4, 3)


def test_every_weight_receives_a_gradient() -> None:
    network = _network(spatial_dims=3)
    network(torch.randn(2, 1, 16, 16, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
