from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from networks import UNet
from networks.receptive_field import receptive_field

STRIDES: dict[str, list] = {
    "stem of stride 1": [1, 2, 2],
    "stem in the plane": [[2, 2, 1], 2, 2],
    "uneven": [[1, 2, 1], [2, 3, 1], [2, 1, 2]],
}
# The defaults of the bundle, channels and strides: fine scans, and coarse ones.
FINE: tuple[list[int], list] = ([24, 48, 96, 128], [[2, 2, 1], 2, 2, 2])


def _network(
    strides: list, *, spatial_dims: int = 3, in_channels: int = 1, out_channels: int = 1
) -> UNet:
    torch.manual_seed(0)
    strides = [s if isinstance(s, int) else s[:spatial_dims] for s in strides]
    return UNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=[3, 4, 5],
        strides=strides,
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


@pytest.mark.parametrize("strides", STRIDES.values(), ids=STRIDES)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_have_the_images_grid(strides: list, spatial_dims: int) -> None:
    network = _network(strides, spatial_dims=spatial_dims, in_channels=2, out_channels=3)
    shape = [2 * stride for stride in network.total_stride]
    assert network(torch.randn(2, 2, *shape)).shape == (2, 3, *shape)


def test_the_total_stride_per_axis() -> None:
    assert _network(STRIDES["uneven"]).total_stride == [4, 6, 2]
    assert _network([[2, 1], 2, [2, 3]], spatial_dims=2).total_stride == [8, 6]


def test_the_forward_pass_level_by_level() -> None:
    """Against torch's own functions, from the weights alone."""
    network = _network([[2, 1], [2, 3], 2], spatial_dims=2)
    stir(network)
    weights = list(network.state_dict().values())
    weights = [w for w in weights if w.dim() or w.dtype.is_floating_point]
    image = torch.randn(2, 1, 16, 12)

    def block(features: torch.Tensor, stride: Any) -> torch.Tensor:
        for step in (stride, 1):
            kernel, scale, shift, mean, variance = (weights.pop(0) for _ in range(5))
            features = nn.functional.conv2d(features, kernel, stride=step, padding=1)
            scale, shift, mean, variance = (
                x[:, None, None] for x in (scale, shift, mean, variance)
            )
            features = ((features - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)
        return features

    first = block(image, (2, 1))
    second = block(first, (2, 3))
    features = block(second, 2)
    for skip, stride in ((second, 2), (first, (2, 3))):
        features = nn.functional.conv_transpose2d(features, weights.pop(0), stride=stride)
        features = block(features + skip, 1)
    logits = nn.functional.conv_transpose2d(features, weights[0], weights[1], stride=(2, 1))
    torch.testing.assert_close(network(image), logits, rtol=1e-4, atol=1e-5)
    assert float(logits.std()) > 0.01


def test_at_first_a_voxel_is_foreground_with_a_probability_of_one_in_a_hundred() -> None:
    for strides in (FINE[1], [1, 2, 2, 2]):
        torch.manual_seed(0)
        network = UNet(
            spatial_dims=3, in_channels=1, out_channels=1, channels=FINE[0], strides=strides
        )
        probability = network(torch.randn(1, 1, 32, 32, 16)).detach().sigmoid()
        assert float(probability.mean()) == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_receives_a_gradient(spatial_dims: int) -> None:
    network = _network(STRIDES["stem in the plane"], spatial_dims=spatial_dims).train()
    network(torch.randn(2, 1, *(16,) * spatial_dims)).square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.any(), name


def test_the_image_and_the_skips_are_not_overwritten() -> None:
    network = _network(STRIDES["stem of stride 1"])
    image = torch.randn(1, 1, 16, 16, 16)
    before, skips = image.clone(), []
    for level in network.encoder:
        level.register_forward_hook(lambda _module, _args, output: skips.append((output, +output)))
    network(image)
    assert torch.equal(image, before) and len(skips) == 2
    assert all(torch.equal(skip, as_made) for skip, as_made in skips)


@pytest.mark.parametrize(
    ("spatial_dims", "strides"),
    [
        (2, [1, 2, 2]),
        (2, [[2, 1], 2, 2]),
        (2, [[1, 2], [2, 3], [2, 1]]),
        (2, [4, [1, 2], 2]),
        (3, [[2, 2, 1], 2, 2]),
    ],
)
def test_what_a_voxel_sees_is_what_the_gradient_says(spatial_dims: int, strides: list) -> None:
    """Every output phase of every axis, with weights for which nothing cancels."""
    network = _network(strides, spatial_dims=spatial_dims).double()
    field = receptive_field(network, (1, 1, *network.total_stride))
    assert field.divisor == tuple(network.total_stride) and not field.norm_sees_window
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.fill_(0.0 if name.endswith("bias") else 0.02)
    for axis, stride in enumerate(network.total_stride):
        shape = list(network.total_stride)
        shape[axis] *= 2 * -(-max(field.left[axis], field.right[axis]) // stride) + 3
        image = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
        lines = network(image).movedim(axis + 2, 0).flatten(1).sum(1)
        middle = shape[axis] // stride // 2 * stride
        seen = []
        for voxel in range(middle, middle + stride):
            (gradient,) = torch.autograd.grad(lines[voxel], image, retain_graph=True)
            indices = gradient.movedim(axis + 2, 0).flatten(1).sum(1).nonzero().flatten()
            assert indices[0] > 0 and indices[-1] < shape[axis] - 1
            seen.append((voxel - int(indices[0]), int(indices[-1]) - voxel))
        sizes = [left + right + 1 for left, right in seen]
        assert (min(sizes), max(sizes)) == (field.size_min[axis], field.size[axis])
        assert max(left for left, _ in seen) == field.left[axis]
        assert max(right for _, right in seen) == field.right[axis]


def test_a_window_that_moves_by_the_total_stride_moves_the_logits() -> None:
    network = _network([[2, 1], 2, 2], spatial_dims=2)
    stir(network)
    strides, field = network.total_stride, receptive_field(network, (1, 1, 64, 32))
    reach = [max(sides) for sides in zip(field.left, field.right, strict=True)]
    shape = [2 * (-(-r // s) * s) + 4 * s for r, s in zip(reach, strides, strict=True)]
    whole = torch.randn(1, 1, *shape)
    with torch.no_grad():
        first, second = network(whole), network(whole[..., strides[0] :, strides[1] :])
    here: list[slice] = []
    there: list[slice] = []
    for n, r, s in zip(shape, reach, strides, strict=True):
        here.append(slice(r + s, n - r))
        there.append(slice(r, n - r - s))
    inside = first[(..., *here)]
    torch.testing.assert_close(inside, second[(..., *there)], rtol=1e-4, atol=1e-5)
    assert float(inside.std()) > 1e-3


def test_the_logits_of_an_image_do_not_depend_on_the_batch() -> None:
    network = _network(STRIDES["stem in the plane"])
    stir(network)
    images = torch.randn(2, 1, 16, 16, 16) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


def test_one_nodule_is_learnt_voxel_by_voxel() -> None:
    """A ball of 4 voxels across behind a stem of stride 2."""
    torch.manual_seed(0)
    network = _network([2, 2, 2], spatial_dims=2).train()
    rows = torch.arange(32)
    mask = ((rows[:, None] - 12.5) ** 2 + (rows - 19.5) ** 2 < 4.5)[None, None].float()
    image = mask + 0.2 * torch.randn(1, 1, 32, 32)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(120):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(image), mask).backward()
        optimizer.step()
    assert torch.equal(network(image) > 0, mask > 0) and mask.sum() == 12


def test_a_scripted_network_gives_the_same_logits() -> None:
    network = _network(STRIDES["stem in the plane"])
    scripted = torch.jit.script(network)
    for shape in ((1, 1, 16, 24, 8), (2, 1, 8, 8, 4)):
        image = torch.randn(shape)
        torch.testing.assert_close(scripted(image), network(image), rtol=1e-4, atol=1e-5)


def test_an_exported_network_gives_the_same_logits() -> None:
    network, image = (
        _network(STRIDES["stem in the plane"], spatial_dims=2),
        torch.randn(1, 1, 32, 8),
    )
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-5)


def test_the_cost_of_a_patch_by_shape_alone() -> None:
    channels, strides = FINE
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = UNet(
            spatial_dims=3, in_channels=1, out_channels=1, channels=channels, strides=strides
        )
        network(torch.empty(1, 1, 96, 96, 96))
    assert counter.get_total_flops() < 50e9
    assert math.prod(network.total_stride) == 16 * 16 * 8


def test_what_breaks_a_rule_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"the image's axes must be multiples of \[8, 8, 4\], got \[16, 20, 12\]"
    ):
        _network(STRIDES["stem in the plane"])(torch.zeros(1, 1, 16, 20, 12))
    with pytest.raises(ValueError, match="two levels or more, got 3 and 2"):
        _network([1, 2])
    with pytest.raises(ValueError, match="two levels or more, got 1 and 1"):
        UNet(spatial_dims=2, in_channels=1, out_channels=1, channels=[4], strides=[2])
    with pytest.raises(ValueError, match="must have length 3, got"):
        _network([[2, 2], 2, 2])
