from __future__ import annotations

import copy
import time
from fractions import Fraction
from typing import Any

import pytest
import torch
from monai.networks.nets import (
    AttentionUnet,
    BasicUNet,
    DynUNet,
    SegResNet,
    UNet,
    resnet18,
)
from torch import nn
from torch.nn import functional

from networks import ResNetEncoder, RiskClassifier
from networks.receptive_field import ReceptiveField, receptive_field

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)


class Skip(nn.Module):
    """Sum or concatenation of two branches, cropped to the shorter one."""

    def __init__(self, first: nn.Module, second: nn.Module, joins: bool) -> None:
        super().__init__()
        self.first, self.second, self.joins = first, second, joins

    def forward(self, image):
        a, b = self.first(image), self.second(image)
        shared = (..., *(slice(min(n)) for n in zip(a.shape[2:], b.shape[2:], strict=True)))
        a, b = a[shared], b[shared]
        return torch.cat([a, b], dim=1) if self.joins else a + b


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, image):
        return self.function(image)


def positive_network(network: nn.Module) -> nn.Module:
    """A float64 copy whose gradients are positive wherever the output depends on the input.

    Weights are positive and biases 0, so nothing cancels and every ReLU is open; norms are left
    out, as they subtract; a maximum, whose gradient reaches one voxel, becomes an average.
    """
    network = copy.deepcopy(network).double().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, NORMS):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, (nn.MaxPool2d, nn.MaxPool3d)):
                average: Any = nn.AvgPool2d if isinstance(child, nn.MaxPool2d) else nn.AvgPool3d
                setattr(parent, name, average(child.kernel_size, child.stride, child.padding))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                fan = max(parameter[0].numel() if parameter.dim() > 1 else 1, 1)
                parameter.uniform_(0.5 / fan, 1 / fan)
    return network


def probed_field(network, shape, axis, field) -> dict[str, int]:
    """Size and reach along one axis, from the gradient of every output phase mid-window."""
    image = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    output = network(image)
    stride = field.stride[axis]
    period = Fraction(field.divisor[axis]) / stride
    assert period.denominator == 1
    middle = output.shape[axis + 2] // 2
    sizes, left, right = [], [], []
    for index in range(middle, middle + int(period)):
        (gradient,) = torch.autograd.grad(
            output.select(axis + 2, index).sum(), image, retain_graph=True
        )
        assert (gradient >= 0).all()
        line = gradient.movedim(axis + 2, 0).flatten(1).sum(1)
        seen = torch.nonzero(line).flatten()
        if seen.numel() == 0:
            sizes.append(0)
            continue
        low, high = int(seen[0]), int(seen[-1])
        assert low > 0 and high < shape[axis + 2] - 1, "the probe's window is too short"
        centre = index * stride.numerator // stride.denominator
        sizes.append(high - low + 1)
        left.append(centre - low)
        right.append(high - centre)
    return {"size": max(sizes), "size_min": min(sizes), "left": max(left), "right": max(right)}


# MONAI types a level's stride as one int, but takes one per axis.
ANISOTROPIC: Any = ((2, 1), (3, 2))


def _unet() -> nn.Module:
    return UNet(3, 1, 1, channels=(2, 2, 3, 3), strides=(2, 2, 2), num_res_units=2)


NETWORKS = {
    # network, spatial axes, length of the probed axis, length of the others
    "anisotropic": lambda: (
        nn.Sequential(
            nn.Conv3d(1, 2, (3, 3, 1), stride=(2, 1, 1), padding=(1, 1, 0)),
            nn.BatchNorm3d(2),
            nn.ReLU(inplace=True),
            nn.Conv3d(2, 1, (5, 1, 3), stride=(1, 3, 2), padding=(2, 0, 1)),
            nn.Conv3d(1, 1, (2, 3, 4), stride=(2, 1, 1)),
        ),
        *(3, 64, 16),
    ),
    "dilated": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 2, 3, dilation=(1, 2), padding=1),
            nn.Conv2d(2, 2, (3, 2), dilation=(4, 3), stride=2),
            nn.Conv2d(2, 1, 3, dilation=5, padding="same"),
        ),
        *(2, 96, 40),
    ),
    "transposed": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=(3, 2), padding=1),
            nn.ConvTranspose2d(2, 2, (5, 3), stride=(3, 2), padding=(1, 2), output_padding=1),
            nn.Conv2d(2, 1, 2),
            nn.ConvTranspose2d(1, 1, 3, stride=1, dilation=2),
        ),
        *(2, 72, 24),
    ),
    "transposed, with gaps": lambda: (
        nn.Sequential(
            nn.Conv1d(1, 1, 4, stride=2), nn.ConvTranspose1d(1, 1, 2, stride=3, dilation=3)
        ),
        *(1, 90, 0),
    ),
    "upsampled only": lambda: (
        nn.Sequential(nn.ConvTranspose1d(1, 1, 4, stride=2), nn.Upsample(scale_factor=3)),
        *(1, 40, 0),
    ),
    "pooled": lambda: (
        nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            nn.AvgPool2d((2, 3), ceil_mode=True),
            nn.Conv2d(2, 1, (3, 1)),
        ),
        *(2, 96, 40),
    ),
    "interpolated": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 1, 3, stride=2, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(1, 1, 3, stride=(2, 4)),
            nn.Upsample(scale_factor=(2, 3), mode="nearest"),
            nn.Conv2d(1, 1, 3),
        ),
        *(2, 96, 32),
    ),
    "resampled": lambda: (
        nn.Sequential(
            nn.Upsample(scale_factor=(0.5, 1.5), mode="nearest-exact"),
            nn.Conv2d(1, 1, (3, 2)),
            nn.Upsample(scale_factor=(1.5, 0.5), mode="bilinear"),
        ),
        *(2, 48, 24),
    ),
    "padded and cropped": lambda: (
        nn.Sequential(
            nn.ConstantPad2d((1, 3, -2, 0), 0.0),
            nn.Conv2d(1, 1, (3, 2)),
            Lambda(lambda x: x[:, :, 1:-3, 3::2]),
            nn.ReflectionPad2d((4, 1, 0, 2)),
        ),
        *(2, 32, 32),
    ),
    "skips": lambda: (
        nn.Sequential(
            Skip(nn.Conv2d(1, 1, (7, 1)), nn.Conv2d(1, 1, 3, padding=(3, 0)), joins=True),
            Skip(
                nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 1, 3), nn.ConvTranspose2d(1, 1, 2, 2)),
                nn.Identity(),
                joins=False,
            ),
        ),
        *(2, 64, 32),
    ),
    "ResNetEncoder": lambda: (
        ResNetEncoder(
            spatial_dims=3,
            in_channels=1,
            channels=[2, 2, 3],
            strides=[[2, 2, 1], 1, 2],
            blocks=[1, 2],
        ),
        *(3, 96, 16),
    ),
    "ResNetEncoder, 2D": lambda: (
        ResNetEncoder(
            spatial_dims=2, in_channels=1, channels=[2, 3, 3], strides=[2, 2, 1], blocks=[2, 1]
        ),
        *(2, 160, 16),
    ),
    "UNet": lambda: (_unet(), *(3, 160, 8)),
    "UNet, 2D": lambda: (
        UNet(2, 1, 1, channels=(2, 2, 3), strides=ANISOTROPIC, kernel_size=(3, 5)),
        *(2, 144, 24),
    ),
    "BasicUNet": lambda: (BasicUNet(3, 1, 1, features=(2, 2, 2, 2, 2, 2)), *(3, 256, 16)),
    "BasicUNet, 2D": lambda: (BasicUNet(2, 1, 1, features=(2, 2, 2, 2, 2, 2)), *(2, 480, 32)),
    "DynUNet": lambda: (
        DynUNet(
            *(3, 1, 1),
            kernel_size=[[3, 3, 1], 3, 3, 3],
            strides=[1, [2, 2, 1], 2, 2],
            upsample_kernel_size=[[2, 2, 1], 2, 2],
            filters=[2, 2, 2, 2],
            res_block=True,
        ),
        *(3, 144, 8),
    ),
    "SegResNet": lambda: (
        SegResNet(
            2,
            init_filters=8,
            in_channels=1,
            out_channels=1,
            blocks_down=(1, 2, 2),
            blocks_up=(1, 1),
        ),
        *(2, 240, 16),
    ),
    "AttentionUnet": lambda: (
        AttentionUnet(2, 1, 1, channels=(2, 2, 2), strides=(2, 2)),
        *(2, 160, 16),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_every_phase_agrees(name) -> None:
    torch.manual_seed(0)
    network, axes, length, others = NETWORKS[name]()
    field = receptive_field(network, (1, 1, *[48] * axes))
    positive = positive_network(network)
    for axis in range(axes):
        shape = [1, 1] + [others] * axes
        shape[axis + 2] = length
        expected = probed_field(positive, shape, axis, field)
        got = {key: getattr(field, key)[axis] for key in expected}
        assert got == expected, f"axis {axis}"


def test_the_lectures_formula() -> None:
    """R = sum(k_i - 1) + 1 at stride 1."""
    kernels = [3, 5, 1, 4, 7]
    network = nn.Sequential(*(nn.Conv3d(1, 1, k, padding=k // 2) for k in kernels))
    field = receptive_field(network, (1, 1, 16, 16, 16))
    expected = sum(k - 1 for k in kernels) + 1
    assert field.size == field.size_min == (expected,) * 3
    assert field.divisor == (1, 1, 1) and field.stride == (Fraction(1),) * 3
    running = [1 + sum(k - 1 for k in kernels[: i + 1]) for i in range(len(kernels))]
    assert [layer.size[0] for layer in field.layers] == running


def test_hand_values() -> None:
    """Stride 2, then a kernel of 3, then back up: 2 phases of one coarse voxel."""
    network = nn.Sequential(
        nn.Conv1d(1, 1, 3, stride=2, padding=1),
        nn.Conv1d(1, 1, 3, padding=1),
        nn.ConvTranspose1d(1, 1, 2, stride=2),
    )
    field = receptive_field(network, (1, 1, 32))
    # Coarse voxel j reads 2j-3 to 2j+3; outputs 2j and 2j+1 read only it.
    assert field.size == field.size_min == (7,)
    assert (field.left, field.right) == ((4,), (3,))
    assert field.stride == (Fraction(1),) and field.divisor == (2,)
    assert [int(layer.stride[0]) for layer in field.layers] == [2, 2, 1]


def test_the_size_does_not_depend_on_the_window() -> None:
    small, large = (receptive_field(_unet(), (2, 1, n, n, n)) for n in (16, 200))
    assert small.size == large.size == (99, 99, 99)
    assert small.size[0] > small.window[0] == 16


def test_half_a_voxel_of_stride() -> None:
    field = receptive_field(nn.Upsample(scale_factor=2, mode="trilinear"), (1, 1, 8, 8, 8))
    assert field.stride == (Fraction(1, 2),) * 3
    assert field.size == (2, 2, 2) and field.divisor == (1, 1, 1)


def test_bicubic_interpolation_reads_four_samples() -> None:
    field = receptive_field(nn.Upsample(scale_factor=2, mode="bicubic"), (1, 1, 8, 8))
    assert field.size == field.size_min == (4, 4)


def test_aligned_corners() -> None:
    """5 samples to 9: every second output lies on a sample and reads it alone."""
    upsample = nn.Upsample(size=9, mode="linear", align_corners=True)
    field = receptive_field(nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), upsample), (1, 1, 5))
    assert field.size == (4,) and field.size_min == (3,)


@pytest.mark.parametrize(
    "head",
    [
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(2, 2, 1), nn.Flatten(), nn.Linear(2, 1)),
        nn.AdaptiveMaxPool3d(1),
        nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8 * 4, 1)),
        Lambda(lambda x: x.mean(dim=(-1, 2, 3))),
        Lambda(lambda x: x * x.amax(dim=(2, 3, 4), keepdim=True).sigmoid()),
        Lambda(lambda x: x.flatten(2).softmax(-1).view(x.shape)),
    ],
)
def test_a_global_pool_sees_the_whole_window(head) -> None:
    body = nn.Conv3d(1, 2, 3, stride=2, padding=1)
    field = receptive_field(nn.Sequential(body, head), (1, 1, 16, 16, 8))
    assert field.whole_window == (True, True, True)
    assert field.size == field.size_min == field.window == (16, 16, 8)
    assert field.left == field.right == (15, 15, 7)


def test_layers_before_a_global_pool_count_every_phase() -> None:
    """Index 0 of this transposed convolution reads one sample, index 2 reads two."""
    network = nn.Sequential(
        nn.ConvTranspose1d(1, 1, 4, stride=3, padding=1), nn.AdaptiveMaxPool1d(1)
    )
    first, last = receptive_field(network, (1, 1, 9)).layers
    assert first.size == (2,) and last.size == (9,)


def test_an_adaptive_pool_with_unequal_windows() -> None:
    """8 samples to 3: 0 to 2, 2 to 5 and 5 to 7."""
    field = receptive_field(nn.AdaptiveAvgPool2d((3, 4)), (1, 1, 8, 8))
    assert field.size == (4, 2) and field.size_min == (3, 2)
    assert field.stride == (Fraction(8, 3), Fraction(2)) and field.whole_window == (False, False)


def test_a_pool_along_one_axis() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d((1, None)))
    field = receptive_field(network, (1, 1, 20, 30))
    assert field.whole_window == (True, False) and field.size == (20, 3)


def test_a_classifier_and_its_encoder() -> None:
    network = RiskClassifier(
        spatial_dims=3,
        in_channels=1,
        channels=[4, 4, 4],
        strides=[2, 1, 2],
        blocks=[1, 1],
        heads=2,
        hidden_features=4,
    )
    assert receptive_field(network, (1, 1, 64, 64, 48)).whole_window == (True,) * 3
    encoder = receptive_field(network.encoder, (1, 1, 64, 64, 48), spacing_mm=(0.7, 0.7, 2.5))
    # Kernels of 3 at strides 1, 2, 2, 2 and 4 of their input: 1 + 2 * (1 + 2 + 2 + 2 + 4).
    assert encoder.size == (23, 23, 23) and encoder.divisor == (4, 4, 4)
    assert encoder.size_mm == pytest.approx((16.1, 16.1, 57.5))


def test_linear_layers_on_channels_last() -> None:
    class Pointwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(2), nn.Linear(2, 3)

        def forward(self, image):
            return self.linear(self.norm(image.movedim(1, -1))).movedim(-1, 1)

    network = nn.Sequential(nn.Conv3d(1, 2, (3, 5, 1)), Pointwise(), nn.Conv3d(3, 1, 3))
    field = receptive_field(network, (1, 1, 16, 16, 16))
    assert field.size == (5, 7, 3) and not field.norm_sees_window


def test_operations_on_other_dimensions() -> None:
    def mix(x):
        a, b = x.chunk(2, dim=1)
        c = torch.stack([a, b], dim=1)[:, 1].repeat(1, 2, 1, 1)
        return c.unsqueeze(0).squeeze(0).transpose(2, 3)[:, :2].transpose(-1, -2)

    network = nn.Sequential(nn.Conv2d(1, 2, (3, 4)), Lambda(mix), nn.Conv2d(2, 1, (1, 5)))
    assert receptive_field(network, (1, 1, 16, 12)).size == (3, 8)


def test_a_resnet_of_monai() -> None:
    field = receptive_field(resnet18(spatial_dims=3, n_input_channels=1), (1, 1, 32, 32, 32))
    assert field.whole_window == (True,) * 3 and field.norm_sees_window


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.BatchNorm2d(2)])
def test_a_norm_over_the_window(norm) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), norm, nn.LeakyReLU(inplace=True))
    field = receptive_field(network, (2, 1, 12, 14))
    assert field.norm_sees_window and field.size == (3, 3)
    image = torch.rand(1, 1, 12, 14, requires_grad=True)
    network(image)[0, 0, 6, 6].backward()
    assert image.grad is not None and torch.count_nonzero(image.grad) == 12 * 14
    in_eval = receptive_field(network.eval(), (2, 1, 12, 14))
    assert in_eval.norm_sees_window == (not isinstance(norm, nn.BatchNorm2d))


def test_the_network_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    before = copy.deepcopy(network.state_dict())
    generator = torch.get_rng_state()
    field = receptive_field(network, (1, 1, 8, 8))
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert {p.device.type for p in network.parameters()} == {"cpu"} and network.training
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(generator, torch.get_rng_state())
    with torch.inference_mode():
        assert receptive_field(network, (1, 8, 8)) == field


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.roll(1, 2), "RollBackward0: there is no rule for it"),
        (lambda x: x.flip(2), "FlipBackward0: there is no rule"),
        (lambda x: x.cumsum(2), "CumsumBackward0: there is no rule"),
        (lambda x: x[:, :, 3], "SelectBackward0: it picks one index of the axis"),
        (lambda x: torch.cat([x, x], 2), "CatBackward0: it joins or splits the axis"),
        (lambda x: x.view(1, 1, 4, 2, 8), "ViewBackward0: it splits the axis"),
        (lambda x: x + x.transpose(2, 3), "hold axis 0 in different dimensions"),
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="circular"), "CopySlices: there is no"),
        (lambda x: functional.conv2d(x, x[:, :, :3, :3]), "weight or bias is made from the image"),
        (lambda x: functional.interpolate(x[..., ::3], size=8) + x, "must meet on one grid, got"),
        (lambda x: [x], "must return one tensor, got list"),
        (lambda x: x.detach() + 1, "must depend on its input"),
        (lambda x: functional.conv2d(x, torch.zeros(1, 3, 1, 1)), r"run on, got \(1, 1, 8, 8\)"),
    ],
)
def test_what_cannot_be_followed_is_named(function, message) -> None:
    with pytest.raises(ValueError, match=message):
        receptive_field(Lambda(function), (1, 1, 8, 8))


def test_the_module_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2))
    with pytest.raises(ValueError, match=r"PixelShuffleBackward0 at 1 \(PixelShuffle\)"):
        receptive_field(network, (1, 1, 8, 8))


@pytest.mark.parametrize("spacing_mm", [(1.0,), (1.0, 0.0), (1.0, float("nan"))])
def test_a_bad_spacing_is_refused(spacing_mm) -> None:
    with pytest.raises(ValueError, match="spacing_mm must be 2 positive numbers, got"):
        receptive_field(nn.Conv2d(1, 1, 3), (1, 1, 8, 8), spacing_mm)


def test_the_print() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, (3, 3, 1), stride=(2, 2, 1)), nn.BatchNorm3d(2))
    text = str(receptive_field(network, (1, 1, 8, 8, 8), spacing_mm=(0.5, 0.5, 2)))
    assert (
        text
        == """\
layer  operation  kernel                 stride     field
0      Conv3d     k3 s2 / k3 s2 / k1 s1  2 x 2 x 1  3 x 3 x 1

receptive field    3 x 3 x 1 voxels
least phase        3 x 3 x 1 voxels
reach              0 left, 2 x 2 x 0 right
total stride       2 x 2 x 1
size divides by    2 x 2 x 1
sees whole window  no
norm sees window   yes
in millimetres     1.5 x 1.5 x 2"""
    )


def test_half_a_second() -> None:
    """After the first use, in which torch imports what it needs for the meta device."""
    network = UNet(3, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    receptive_field(network, (1, 1, 96, 96, 96))
    start = time.process_time()
    field = receptive_field(network, (1, 1, 96, 96, 96))
    assert time.process_time() - start < 0.5
    assert isinstance(field, ReceptiveField) and field.size == (203, 203, 203)
