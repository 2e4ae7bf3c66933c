"""Pooling by the plain average."""

from __future__ import annotations

import torch
from torch import nn


class GlobalAveragePool(nn.Module):
    """Average of a feature map over all voxels, as one head without scores.

    Shape:
        ``(B, C, *spatial)`` to ``(B, 1, C)``.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # torch sums half precision in float32, also where the sum exceeds what a half can hold.
        return features.flatten(2).mean(dim=2).unsqueeze(1)
