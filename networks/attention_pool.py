"""Attention pooling with several heads."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn


class AttentionPool(nn.Module):
    """Learned weighted averages of a feature map, one for each head.

    Each head scores every voxel with a 1x1x1 convolution ``f``; its weights are
    ``softmax(f(z))`` over *all* voxels, and it returns the weighted sum of ``z``
    (the lecture's attention pooling; without gating arXiv:1802.04712).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels ``C`` of the feature map.
        heads: number of heads ``N``.

    Shape:
        ``(B, C, *spatial)`` to a pair: pooled ``(B, N, C)`` and scores ``(B, N, *spatial)``,
        the latter before the softmax, because a loss on the weights needs their logarithm.
    """

    def __init__(self, *, spatial_dims: int, in_channels: int, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        self.score = Conv[Conv.CONV, spatial_dims](in_channels, heads, kernel_size=1)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.score(features)
        return attention_average(features, scores), scores


def attention_average(features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Average of the features with the weights ``softmax(scores)`` over all voxels.

    Args:
        features: ``(B, C, *spatial)``.
        scores: ``(B, N, *spatial)``, one map for each head.

    Returns:
        ``(B, N, C)`` of the features' dtype.
    """
    if torch.jit.is_scripting():  # an exported network has no autocast to be kept from
        return _average(features, scores)
    if features.is_meta:  # which has no autocast
        return _average(features, scores)
    with torch.autocast(device_type=features.device.type, enabled=False):
        return _average(features, scores)


def _average(features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    # Half precision rounds weights near 1 / 819,200: their sum would be 0.977 and not 1.
    weights = scores.flatten(2).float().softmax(dim=2)
    pooled = torch.einsum("bnv,bcv->bnc", weights, features.flatten(2).float())
    return pooled.to(features.dtype)
