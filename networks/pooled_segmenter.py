"""The voxel rung's first step: an encoder's coarse map, upsampled back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F  # noqa: N812

from networks.background_start import start_as_background
from networks.resnet_encoder import ResNetEncoder


class PooledSegmenter(nn.Module):
    """One logit per coarse cell, spread over its voxels by linear interpolation.

    It has all the context of its encoder and none of the detail: what is smaller than a cell has
    no outline. This is the network that :class:`networks.UNet` is compared with.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: foreground classes.
        channels: channels of the encoder's stem and of each stage after it, which is one residual
            block, so that the encoder has the convolutions of a UNet of these channels.
        strides: strides of the stem and the stages, one number for all axes or one per axis.

    Shape:
        image ``(B, in_channels, *spatial)`` to logits ``(B, out_channels, *spatial)``; where an
        axis does not divide, the last cell reaches past its end.

    Raises:
        ValueError: if ``channels`` and ``strides`` have fewer than two entries or do not fit.
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
        self.encoder = ResNetEncoder(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            blocks=[1] * (len(channels) - 1),
        )
        self.head = Conv[Conv.CONV, spatial_dims](channels[-1], out_channels, kernel_size=1)
        start_as_background(self.head.weight, self.head.bias)
        self.factors = [float(stride) for stride in self.encoder.stage_strides[-1]]
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.encoder(image))
        # By factor, not by size: a cell covers the same voxels at any size.
        logits = F.interpolate(logits, scale_factor=self.factors, mode=self.mode)
        for axis in range(2, logits.dim()):
            logits = logits.narrow(axis, 0, image.shape[axis])
        return logits
