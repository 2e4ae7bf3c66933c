"""The voxel rung: scan to a logit per voxel and class, on the scan's own grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.layers.factories import Conv
from monai.utils import ensure_tuple_rep
from torch import nn

from networks.background_start import start_as_background


class UNet(nn.Module):
    """Encoder, bottleneck, and a decoder that meets the encoder's maps (arXiv:1505.04597).

    The way down is by strided convolutions, the way up by transposed ones whose kernel is their
    stride. Skips are added to the upsampled map (arXiv:1707.03718): concatenation would double the
    channels that the first convolution after it reads.

    All norms are batch norms. In evaluation a voxel sees its receptive field and nothing else, so
    a window that moves by a multiple of the total stride moves the result with it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: foreground classes.
        channels: channels of each level, fine to coarse.
        strides: stride into each level, one number for all axes or one per axis. The first is the
            stem's: with 1 the finest level has the image's grid, otherwise the head is a
            transposed convolution back to that grid.

    Shape:
        image ``(B, in_channels, *spatial)`` to logits ``(B, out_channels, *spatial)``; each axis
        a multiple of ``total_stride``.

    Attributes:
        total_stride: image voxels per cell of the coarsest level, one number per axis.

    Raises:
        ValueError: if an argument is out of its range, or an image does not divide.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
    ) -> None:
        super().__init__()
        if not 2 <= len(channels) == len(strides):
            raise ValueError(
                "channels and strides must have one entry for each of two levels or more, "
                f"got {len(channels)} and {len(strides)}"
            )
        steps = [ensure_tuple_rep(stride, spatial_dims) for stride in strides]
        self.total_stride = [math.prod(axis) for axis in zip(*steps, strict=True)]
        widths = [in_channels, *channels]
        down = [
            _convolutions(spatial_dims, widths[i], widths[i + 1], step)
            for i, step in enumerate(steps)
        ]
        self.encoder = nn.ModuleList(down[:-1])
        self.bottleneck = down[-1]
        self.decoder = nn.ModuleList(
            _UpLevel(spatial_dims, channels[i], channels[i - 1], steps[i])
            for i in range(len(channels) - 1, 0, -1)
        )
        self.head = _head(spatial_dims, channels[0], out_channels, steps[0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self._check(image)
        features = image
        skips: list[torch.Tensor] = []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
        features = self.bottleneck(features)
        for level in self.decoder:
            features = level(features, skips.pop())
        return self.head(features)

    def _check(self, image: torch.Tensor) -> None:
        sizes = image.shape[2:]
        for axis, stride in enumerate(self.total_stride):
            if sizes[axis] % stride:
                raise ValueError(
                    f"the image's axes must be multiples of {self.total_stride}, got {list(sizes)}"
                )


class _UpLevel(nn.Module):
    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, stride: Sequence[int]
    ) -> None:
        super().__init__()
        self.up = UpSample(
            spatial_dims,
            in_channels,
            out_channels,
            scale_factor=stride,
            mode="deconv",
            bias=False,
        )
        self.convolutions = _convolutions(spatial_dims, out_channels, out_channels, 1)

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.convolutions(self.up(features) + skip)


def _convolutions(
    spatial_dims: int, in_channels: int, out_channels: int, stride: int | Sequence[int]
) -> nn.Sequential:
    first, second = (
        Convolution(
            spatial_dims,
            width,
            out_channels,
            strides=step,
            kernel_size=3,
            act=("relu", {"inplace": True}),
            norm="batch",
            bias=False,
        )
        for width, step in ((in_channels, stride), (out_channels, 1))
    )
    return nn.Sequential(first, second)


def _head(
    spatial_dims: int, in_channels: int, out_channels: int, stride: Sequence[int]
) -> nn.Module:
    """Features to logits on the image's grid; with stride 1 it is a mere 1x1x1 convolution."""
    head = Conv[Conv.CONVTRANS, spatial_dims](in_channels, out_channels, stride, stride=stride)
    start_as_background(head.weight, head.bias)
    return head
