"""A network of background and foreground as one of a foreground logit."""

from __future__ import annotations

import torch
from torch import nn


class ForegroundLogit(nn.Module):
    """Two logits for a softmax to the one logit whose sigmoid is the foreground's share.

    Args:
        network: images ``(B, C, *spatial)`` to the logits of background and foreground,
            ``(B, 2, *spatial)``.

    Shape:
        image ``(B, C, *spatial)`` to logits ``(B, 1, *spatial)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        background, foreground = self.network(image).split(1, dim=1)
        return foreground - background
