"""The box rung: scan to a score and a box for every cell of a few grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Act, Conv, Norm
from torch import nn

from networks.feature_pyramid import FeaturePyramid
from networks.resnet_encoder import ResNetEncoder


class NoduleDetector(nn.Module):
    """CNN, feature pyramid and a head on each of its levels; one box per cell, no anchors.

    Cell ``j`` of a level with stride ``s`` covers the voxels from edge ``j * s`` to edge
    ``(j + 1) * s``. The centre of its box is ``(j + 0.5 + offset) * s`` and the size
    ``exp(log_size) * s``, both in voxels of the input. With one level the pyramid is a mere
    1x1x1 convolution, which makes the network a dense detector of a single scale.

    All norms are batch norms. In evaluation a cell sees its receptive field and nothing else,
    so a window that moves by a multiple of the coarsest stride moves the result with it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of the encoder's stem and stages.
        strides: strides of the encoder's stem and stages, one number for all axes or one per axis.
        blocks: residual blocks of each stage.
        levels: number of last stages that the pyramid is built of.
        feature_channels: channels of the pyramid and of the heads.
        head_kernel: kernel of the heads' hidden convolution, 1 or 3.

    Shape:
        image ``(B, in_channels, *spatial)`` to a dict of lists over the levels, fine to coarse:
        ``logits`` ``(B, 1, *feature)``, ``offsets`` and ``log_sizes``
        ``(B, spatial_dims, *feature)``, where feature is ``ceil(spatial / stride)``.

    Attributes:
        level_strides: input voxels per cell of each level, one number per axis.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
        blocks: Sequence[int],
        levels: int,
        feature_channels: int,
        head_kernel: int = 3,
    ) -> None:
        super().__init__()
        if not 1 <= levels <= len(blocks):
            raise ValueError(
                f"levels must lie between 1 and the number of stages, {len(blocks)}, got {levels}"
            )
        if head_kernel not in (1, 3):
            raise ValueError(f"head_kernel must be 1 or 3, got {head_kernel}")
        self.encoder = ResNetEncoder(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            blocks=blocks,
        )
        self.levels = levels
        self.level_strides = self.encoder.stage_strides[-levels:]
        self.pyramid = FeaturePyramid(
            spatial_dims=spatial_dims,
            in_channels=self.encoder.stage_channels[-levels:],
            strides=self.level_strides,
            out_channels=feature_channels,
        )
        # One head per level: a norm that levels share has the statistics of none of them.
        self.heads = nn.ModuleList(
            _head(spatial_dims, feature_channels, head_kernel) for _ in range(levels)
        )

    def forward(self, image: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        maps = self.pyramid(self.encoder.stage_features(image)[-self.levels :])
        logits: list[torch.Tensor] = []
        offsets: list[torch.Tensor] = []
        log_sizes: list[torch.Tensor] = []
        for level, head in enumerate(self.heads):
            output = head(maps[level])
            axes = output.dim() - 2
            logits.append(output[:, :1])
            offsets.append(output[:, 1 : 1 + axes])
            log_sizes.append(output[:, 1 + axes :])
        return {"logits": logits, "offsets": offsets, "log_sizes": log_sizes}


def _head(spatial_dims: int, channels: int, kernel_size: int) -> nn.Sequential:
    convolution = Conv[Conv.CONV, spatial_dims]
    output = convolution(channels, 1 + 2 * spatial_dims, kernel_size=1)
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)
    # Almost every cell is background. Said from the start (arXiv:1708.02002), the sum over all
    # those cells does not drown the first steps.
    prior = 0.01
    nn.init.constant_(output.bias[:1], -math.log((1 - prior) / prior))
    return nn.Sequential(
        convolution(channels, channels, kernel_size, padding=kernel_size // 2, bias=False),
        Norm[Norm.BATCH, spatial_dims](channels),
        Act[Act.RELU](inplace=True),
        output,
    )
