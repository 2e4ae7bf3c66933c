"""Pooling by the maximum of each channel."""

from __future__ import annotations

import torch
from torch import nn


class GlobalMaxPool(nn.Module):
    """Maximum of each channel over all voxels, as one head without scores.

    Voxels that tie share the gradient.

    Shape:
        ``(B, C, *spatial)`` to ``(B, 1, C)``.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.flatten(2).amax(dim=2).unsqueeze(1)
