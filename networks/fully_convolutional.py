"""The voxel rung's second step: convolutions on the image's own grid, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import nn

from networks.background_start import start_as_background


class FullyConvolutional(nn.Module):
    """Stride 1 throughout (arXiv:1411.4038 without its pooling), a logit per voxel.

    It has all the detail and little context: a layer of kernel ``k`` widens what a voxel sees by
    no more than ``k - 1``, so that the field is ``len(channels) * (kernel_size - 1) + 1`` voxels,
    while every layer's map has the size of the image, and memory limits their number. This is the
    network that :class:`networks.UNet` is compared with.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: foreground classes.
        channels: channels of each layer.
        kernel_size: of every layer, odd.

    Shape:
        image ``(B, in_channels, *spatial)`` to logits ``(B, out_channels, *spatial)``, any size.

    Raises:
        ValueError: if there is no layer, or the kernel is even.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels must have one entry or more, got none")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        widths = [in_channels, *channels]
        self.layers = nn.Sequential(
            *(
                Convolution(
                    spatial_dims,
                    widths[i],
                    widths[i + 1],
                    kernel_size=kernel_size,
                    act=("relu", {"inplace": True}),
                    norm="batch",
                    bias=False,
                )
                for i in range(len(channels))
            )
        )
        self.head = Conv[Conv.CONV, spatial_dims](channels[-1], out_channels, kernel_size=1)
        start_as_background(self.head.weight, self.head.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(image))
