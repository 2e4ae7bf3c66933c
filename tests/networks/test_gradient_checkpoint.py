from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from networks import ResNetEncoder, RiskClassifier
from networks.gradient_checkpoint import gradient_checkpoint


def _encoder(*, gradient_checkpointing: bool) -> ResNetEncoder:
    torch.manual_seed(0)
    return ResNetEncoder(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 6, 6],
        strides=[2, 1, 1],
        blocks=[2, 1],  # with and without a convolution in the shortcut
        gradient_checkpointing=gradient_checkpointing,
    ).double()


def _classifier(*, gradient_checkpointing: bool) -> RiskClassifier:
    torch.manual_seed(0)
    return RiskClassifier(
        spatial_dims=2,
        in_channels=1,
        channels=[4, 8],
        strides=[2, 2],
        blocks=[1],
        heads=2,
        hidden_features=8,
        gradient_checkpointing=gradient_checkpointing,
    ).double()


@pytest.mark.parametrize(
    ("build", "shape"), [(_encoder, (2, 1, 12, 10, 8)), (_classifier, (3, 1, 16, 12))]
)
def test_steps_gradients_and_running_statistics_are_those_of_the_plain_network(
    build: Callable[..., nn.Module], shape: tuple[int, ...]
) -> None:
    image = torch.randn(shape, dtype=torch.float64)
    states = []
    for flag in (False, True):
        network = build(gradient_checkpointing=flag)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        gradients = []
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            network(image).square().sum().backward()
            gradients.append([weight.grad for weight in network.parameters()])
            optimizer.step()
        states.append((gradients, network.state_dict(), network.eval()(image)))
    torch.testing.assert_close(states[1], states[0], rtol=1e-9, atol=1e-12)
    counted = [value for name, value in states[1][1].items() if name.endswith("batches_tracked")]
    assert counted and all(int(value) == 3 for value in counted)


def test_it_keeps_less_for_the_way_back() -> None:
    kept = {}
    for flag in (False, True):
        network, sizes = _encoder(gradient_checkpointing=flag), list[int]()

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel() if tensor.ndim == 5 else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.randn(1, 1, 16, 16, 16, dtype=torch.float64))
        kept[flag] = sum(sizes)
    assert 0 < kept[True] < kept[False] / 2


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_norm_is_left_as_it_was_even_by_a_failing_recomputation(momentum: float | None) -> None:
    norm = nn.BatchNorm1d(2, momentum=momentum)
    plain = copy.deepcopy(norm)
    features = torch.randn(5, 2, requires_grad=True)
    gradient_checkpoint(norm, features).sum().backward()
    plain(features)
    assert norm.momentum == momentum
    torch.testing.assert_close(norm.state_dict(), plain.state_dict())

    calls = []

    def fail_once_more(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")

    norm.register_forward_pre_hook(fail_once_more)
    output = gradient_checkpoint(norm, features)
    with pytest.raises(RuntimeError, match="out of memory"):
        output.sum().backward()
    assert norm.momentum == momentum and norm.state_dict()["num_batches_tracked"] == 2


def test_a_frozen_norm_stays_frozen() -> None:
    norm = nn.BatchNorm1d(2).eval()
    gradient_checkpoint(norm, torch.randn(5, 2, requires_grad=True)).sum().backward()
    torch.testing.assert_close(norm.state_dict(), nn.BatchNorm1d(2).state_dict())


def test_evaluation_and_torchscript_know_nothing_of_it() -> None:
    network = _classifier(gradient_checkpointing=True).eval()
    image = torch.randn(2, 1, 16, 12, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))
    plain = _classifier(gradient_checkpointing=False).eval()
    assert network.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(network(image), plain(image))
