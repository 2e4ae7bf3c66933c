from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from networks import NoduleDetector
from networks.receptive_field import receptive_field

KEYS = ("logits", "offsets", "log_sizes")


def _network(spatial_dims: int, *, levels: int = 3, head_kernel: int = 3) -> NoduleDetector:
    torch.manual_seed(0)
    return NoduleDetector(
        spatial_dims=spatial_dims,
        in_channels=1,
        channels=[4, 4, 6, 8],
        strides=[[2] * (spatial_dims - 1) + [1], 2, 2, 2],
        blocks=[1, 1, 1],
        levels=levels,
        feature_channels=6,
        head_kernel=head_kernel,
    ).eval()


def stir(network: nn.Module) -> None:
    """Weights and statistics for which every map varies from cell to cell."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)


@pytest.mark.parametrize(
    "shape", [(2, 1, 32, 20, 12), (1, 1, 9, 13, 7), (2, 1, 24, 16), (1, 1, 5, 9)]
)
def test_maps_of_every_level(shape: tuple[int, ...]) -> None:
    dims = len(shape) - 2
    network = _network(dims)
    outputs = network(torch.randn(shape))
    assert network.level_strides == [(*(s,) * (dims - 1), s // 2) for s in (4, 8, 16)]
    assert list(outputs) == list(KEYS)
    for level, stride in enumerate(network.level_strides):
        feature = [-(-n // s) for n, s in zip(shape[2:], stride, strict=True)]
        assert outputs["logits"][level].shape == (shape[0], 1, *feature)
        assert outputs["offsets"][level].shape == (shape[0], dims, *feature)
        assert outputs["log_sizes"][level].shape == (shape[0], dims, *feature)


def test_at_first_a_cell_holds_a_nodule_with_a_probability_of_one_in_a_hundred() -> None:
    outputs = _network(3)(torch.randn(1, 1, 32, 32, 16))
    for logits in outputs["logits"]:
        assert float(logits.detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.2)
    for maps in (*outputs["offsets"], *outputs["log_sizes"]):
        assert float(maps.detach().abs().max()) < 0.5


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_receives_a_gradient(spatial_dims: int) -> None:
    network = _network(spatial_dims).train()
    outputs = network(torch.randn(2, 1, *(32,) * spatial_dims))
    sum(level.square().sum() for maps in outputs.values() for level in maps).backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


def test_the_single_scale_sees_no_neighbouring_cell_in_its_head() -> None:
    network = _network(2, levels=1, head_kernel=1)
    assert network.level_strides == [(16, 8)]
    assert [len(maps) for maps in network(torch.zeros(1, 1, 32, 32)).values()] == [1, 1, 1]
    encoder = receptive_field(network.encoder, (1, 1, 64, 64))
    assert receptive_field(OneMap(network, "logits", 0), (1, 1, 64, 64)).size == encoder.size


class OneMap(nn.Module):
    def __init__(self, network: nn.Module, key: str, level: int) -> None:
        super().__init__()
        self.network, self.key, self.level = network, key, level

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)[self.key][self.level]


def test_a_window_that_moves_by_the_coarsest_stride_moves_the_maps() -> None:
    network = _network(2)
    stir(network)
    stride = network.level_strides[-1]
    fields = [receptive_field(OneMap(network, "logits", level), (1, 1, 64, 32)) for level in (0, 2)]
    assert not any(field.norm_sees_window for field in fields)
    reach = [max(max(f.left[axis], f.right[axis]) for f in fields) for axis in range(2)]
    # Two windows that share all but a stride, each with the reach beyond a common middle.
    shape = [2 * (-(-r // s) * s) + 4 * s for r, s in zip(reach, stride, strict=True)]
    whole = torch.randn(1, 1, *shape)
    with torch.no_grad():
        first, second = network(whole), network(whole[..., stride[0] :, stride[1] :])
    for key in KEYS:
        for level, cell in enumerate(network.level_strides):
            middle: list[slice] = []
            same: list[slice] = []
            for n, r, s, c in zip(shape, reach, stride, cell, strict=True):
                start, stop = -(-(r + s) // c), (n - r) // c
                assert stop > start
                middle.append(slice(start, stop))
                same.append(slice(start - s // c, stop - s // c))
            a, b = first[key][level][(..., *middle)], second[key][level][(..., *same)]
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert float(a.std()) > 1e-3


def test_the_score_of_an_image_does_not_depend_on_the_batch() -> None:
    network = _network(3)
    stir(network)
    images = torch.randn(2, 1, 32, 32, 16) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1, 1)
    together, alone = network(images), network(images[:1])
    for key in KEYS:
        for a, b in zip(together[key], alone[key], strict=True):
            torch.testing.assert_close(a[:1], b, rtol=1e-4, atol=1e-5)


def test_a_scripted_network_gives_the_same_maps_at_any_size() -> None:
    network = _network(3)
    scripted = torch.jit.script(network)
    _assert_same_maps(scripted, network, torch.randn(1, 1, 32, 24, 16))
    _assert_same_maps(scripted, network, torch.randn(2, 1, 9, 17, 13))


def test_an_exported_network_gives_the_same_maps() -> None:
    network, image = _network(2), torch.randn(1, 1, 32, 24)
    _assert_same_maps(torch.export.export(network, (image,)).module(), network, image)


def _assert_same_maps(exported: nn.Module, network: NoduleDetector, image: torch.Tensor) -> None:
    outputs = exported(image)
    for key, maps in network(image).items():
        torch.testing.assert_close(list(outputs[key]), maps, rtol=1e-4, atol=1e-5)


def test_the_cost_of_a_whole_scan_by_shape_alone() -> None:
    """The widths that the bundle trains, at the size that the peer is measured at."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = NoduleDetector(
            spatial_dims=3,
            in_channels=1,
            channels=[32, 64, 96, 128],
            strides=[[2, 2, 1], 2, 2, 2],
            blocks=[2, 2, 2],
            levels=3,
            feature_channels=64,
        )
        network(torch.empty(1, 1, 256, 256, 96))
    assert counter.get_total_flops() / math.prod((256, 256, 96)) * 1e6 < 100e9


def test_arguments_that_break_a_rule_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must lie between 1 and the number of stages, 3"):
        _network(3, levels=4)
    with pytest.raises(ValueError, match="head_kernel must be 1 or 3, got 5"):
        _network(3, head_kernel=5)
