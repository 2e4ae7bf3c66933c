"""A ResNet body whose strides are chosen by the caller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.layers.factories import Act, Conv, Norm
from monai.networks.nets.resnet import ResNetBlock
from torch import nn

from networks.gradient_checkpoint import gradient_checkpoint


class ResNetEncoder(nn.Module):
    """Image to feature map through MONAI's residual blocks (arXiv:1512.03385).

    MONAI's own ``ResNet`` fixes the strides of its four layers at 1, 2, 2, 2, which leaves a
    512x512x200 scan with 32x32x13 features; a lesion of 6 mm is lost on such a grid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of the stem and of each stage after it.
        strides: stride of the stem and of each stage, one number for all axes or one per axis.
        blocks: residual blocks of each stage, so one entry fewer than ``channels``.
        gradient_checkpointing: in a training step keep the input of each convolution alone and
            compute what follows it again on the way back: less memory, more time, the same step.

    Shape:
        ``(B, in_channels, H, W[, D])`` to ``(B, channels[-1], ceil(H / s), ...)`` with ``s`` the
        product of the strides of that axis.

    Attributes:
        stage_channels: channels of each stage, fine to coarse.
        stage_strides: input voxels per cell of each stage, one number per axis.

    Raises:
        ValueError: if the lengths of ``channels``, ``strides`` and ``blocks`` do not fit.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
        blocks: Sequence[int],
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        if not len(channels) == len(strides) == len(blocks) + 1:
            raise ValueError(
                "channels and strides must have one entry more than blocks, "
                f"got {len(channels)}, {len(strides)} and {len(blocks)}"
            )
        self.stem = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](
                in_channels,
                channels[0],
                kernel_size=3,
                stride=_per_axis(strides[0], spatial_dims),
                padding=1,
                bias=False,
            ),
            Norm[Norm.BATCH, spatial_dims](channels[0]),
            Act[Act.RELU](inplace=True),
        )
        stages = [
            _stage(
                spatial_dims=spatial_dims,
                in_channels=channels[i],
                out_channels=channels[i + 1],
                stride=_per_axis(strides[i + 1], spatial_dims),
                blocks=blocks[i],
            )
            for i in range(len(blocks))
        ]
        self.stages = nn.Sequential(*stages)
        self.out_channels = channels[-1]
        self.stage_channels = list(channels[1:])
        totals = np.cumprod([_per_axis(stride, spatial_dims) for stride in strides], axis=0)
        self.stage_strides = [tuple(total) for total in totals[1:].tolist()]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript knows the outer one only
            if self.gradient_checkpointing and self.training:
                return self._checkpointed_features(image)
        return self.stages(self.stem(image))

    def stage_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Feature map of each stage, fine to coarse; the last is what ``forward`` returns."""
        features = self.stem(image)
        maps: list[torch.Tensor] = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps

    def _checkpointed_features(self, image: torch.Tensor) -> torch.Tensor:
        features = gradient_checkpoint(self.stem, image)
        for stage in self.stages:
            for block in stage.children():
                assert isinstance(block, ResNetBlock)
                features = _checkpointed_block(block, features)
        return features


def _checkpointed_block(block: ResNetBlock, features: torch.Tensor) -> torch.Tensor:
    """The block's own forward, one convolution at a time: as a whole it would need all at once."""
    main = gradient_checkpoint(nn.Sequential(block.conv1, block.bn1, block.act), features)
    main = gradient_checkpoint(nn.Sequential(block.conv2, block.bn2), main)
    if isinstance(block.downsample, nn.Module):
        features = gradient_checkpoint(block.downsample, features)
    main += features
    return block.act(main)


def _per_axis(stride: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    per_axis = (stride,) * spatial_dims if isinstance(stride, int) else tuple(stride)
    if len(per_axis) != spatial_dims:
        raise ValueError(f"a stride must have {spatial_dims} entries, got {list(per_axis)}")
    return per_axis


def _stage(
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    stride: tuple[int, ...],
    blocks: int,
) -> nn.Sequential:
    shortcut = None
    if in_channels != out_channels or max(stride) > 1:
        shortcut = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](
                in_channels, out_channels, kernel_size=1, stride=stride, bias=False
            ),
            Norm[Norm.BATCH, spatial_dims](out_channels),
        )
    # MONAI types the stride as an int, but hands it to the convolution, which takes one per axis.
    first = ResNetBlock(
        in_channels,
        out_channels,
        spatial_dims=spatial_dims,
        stride=stride,  # type: ignore[arg-type]
        downsample=shortcut,
    )
    rest = [
        ResNetBlock(out_channels, out_channels, spatial_dims=spatial_dims)
        for _ in range(blocks - 1)
    ]
    return nn.Sequential(first, *rest)
