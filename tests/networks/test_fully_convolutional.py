from __future__ import annotations

import pytest
import torch
from torch import nn

from networks import FullyConvolutional
from networks.receptive_field import receptive_field


def _network(
    spatial_dims: int, *, layers: int = 3, kernel_size: int = 3, out_channels: int = 1
) -> FullyConvolutional:
    torch.manual_seed(0)
    return FullyConvolutional(
        spatial_dims=spatial_dims,
        in_channels=2,
        out_channels=out_channels,
        channels=[4] * layers,
        kernel_size=kernel_size,
    ).eval()


@pytest.mark.parametrize("shape", [(2, 2, 9, 13, 7), (1, 2, 24, 16), (1, 2, 1, 1)])
def test_logits_have_the_images_grid_at_any_size(shape: tuple[int, ...]) -> None:
    logits = _network(len(shape) - 2, out_channels=3)(torch.randn(shape))
    assert logits.shape == (shape[0], 3, *shape[2:])


@pytest.mark.parametrize(("layers", "kernel_size"), [(1, 1), (1, 3), (4, 3), (3, 5), (2, 7)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_lectures_formula(spatial_dims: int, layers: int, kernel_size: int) -> None:
    """R = sum(k_i - 1) + 1, the head's 1x1x1 adding nothing."""
    network = _network(spatial_dims, layers=layers, kernel_size=kernel_size)
    field = receptive_field(network, (1, 2, *(32,) * spatial_dims))
    kernels = [
        module.kernel_size[0]
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d))
    ]
    expected = sum(kernel - 1 for kernel in kernels) + 1
    assert expected == layers * (kernel_size - 1) + 1
    assert field.size == field.size_min == (expected,) * spatial_dims
    assert field.left == field.right and field.stride == field.divisor == (1,) * spatial_dims
    assert not field.norm_sees_window


def test_what_a_voxel_sees_is_what_the_gradient_says() -> None:
    network = _network(2, layers=2, kernel_size=5).double()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(0.0 if name.endswith("bias") else 0.1)
    image = torch.ones(1, 2, 15, 15, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, 7, 7].backward()
    assert image.grad is not None
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[3:12, 3:12] = True
    assert torch.equal(image.grad[0, 0] > 0, expected)


def test_at_first_a_voxel_is_foreground_with_a_probability_of_one_in_a_hundred() -> None:
    probability = _network(3)(torch.randn(1, 2, 16, 16, 16)).detach().sigmoid()
    assert float(probability.mean()) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_receives_a_gradient(spatial_dims: int) -> None:
    network = _network(spatial_dims).train()
    network(torch.randn(2, 2, *(8,) * spatial_dims)).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


def test_a_scripted_network_gives_the_same_logits() -> None:
    network, image = _network(3), torch.randn(2, 2, 9, 13, 7)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image), rtol=1e-4, atol=1e-5)


def test_arguments_that_break_a_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must have one entry or more, got none"):
        _network(3, layers=0)
    for kernel_size in (0, 2, -1):
        with pytest.raises(ValueError, match=f"must be odd and positive, got {kernel_size}"):
            _network(3, kernel_size=kernel_size)
