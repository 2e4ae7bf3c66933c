"""Attention pooling whose scores come from a gated hidden layer."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from networks.attention_pool import attention_average


class GatedAttentionPool(nn.Module):
    """Attention pooling with scores ``w^T (tanh(V z) * sigmoid(U z))`` (arXiv:1802.04712, eq. 9).

    All heads read the same gated layer, each with its own ``w``. ``V`` and ``U`` have biases;
    ``w`` has none, because the softmax does not see it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels ``C`` of the feature map.
        heads: number of heads ``N``.
        hidden_features: rows of ``V`` and of ``U``.

    Shape:
        as :class:`networks.AttentionPool`: ``(B, C, *spatial)`` to pooled ``(B, N, C)`` and
        scores ``(B, N, *spatial)`` before the softmax.

    Raises:
        ValueError: if ``heads`` or ``hidden_features`` is below 1.
    """

    def __init__(
        self, *, spatial_dims: int, in_channels: int, heads: int, hidden_features: int
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        if hidden_features < 1:
            raise ValueError(f"hidden_features must be at least 1, got {hidden_features}")
        convolution = Conv[Conv.CONV, spatial_dims]
        self.hidden = convolution(in_channels, hidden_features, kernel_size=1)
        self.gate = convolution(in_channels, hidden_features, kernel_size=1)
        self.score = convolution(hidden_features, heads, kernel_size=1, bias=False)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.score(self.hidden(features).tanh() * self.gate(features).sigmoid())
        return attention_average(features, scores), scores
