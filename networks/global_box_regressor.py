"""The simplest box rung: one box from features pooled over the whole image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from networks.global_average_pool import GlobalAveragePool
from networks.resnet_encoder import ResNetEncoder


class GlobalBoxRegressor(nn.Module):
    """CNN, average over all voxels, and a small network that says if, where and how large.

    The output is that of a :class:`networks.NoduleDetector` with one level of one cell, which
    covers the whole image. Loss and decoding are the same, with the image's shape as the stride
    of the level: the box's centre is ``(0.5 + offset) * shape`` and its size
    ``exp(log_size) * shape``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of the encoder's stem and stages.
        strides: strides of the encoder's stem and stages, one number for all axes or one per axis.
        blocks: residual blocks of each stage.
        hidden_features: width of the layer between the pooled features and the box.

    Shape:
        image ``(B, in_channels, *spatial)`` to a dict of lists with one entry: ``logits``
        ``(B, 1, 1, 1[, 1])``, ``offsets`` and ``log_sizes`` ``(B, spatial_dims, 1, 1[, 1])``.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int | Sequence[int]],
        blocks: Sequence[int],
        hidden_features: int,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            blocks=blocks,
        )
        self.regressor = nn.Sequential(
            GlobalAveragePool(),
            nn.Flatten(),
            nn.Linear(self.encoder.out_channels, hidden_features),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_features, 1 + 2 * spatial_dims),
        )

    def forward(self, image: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        axes = image.dim() - 2
        box = self.regressor(self.encoder(image))
        cell = box.view(box.shape + (1,) * axes)
        return {
            "logits": [cell[:, :1]],
            "offsets": [cell[:, 1 : 1 + axes]],
            "log_sizes": [cell[:, 1 + axes :]],
        }
