"""Cumulative risk for each of several years."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

FIRST_BIAS = -2.0  # of a hazard: softplus gives 0.13


class YearlyHazards(nn.Module):
    """Features to cumulative logits that cannot fall from one year to the next.

    The first year's logit is a linear layer; every later year adds a hazard,
    ``softplus`` of a linear layer, to the logit of the year before. The additive hazard layer of
    Sybil (doi:10.1200/JCO.22.01345) clamps with a ReLU and has a hazard for the first year too:
    the ReLU ends with equal years and no gradient, and the extra hazard repeats the base.

    Args:
        in_features: width of the input.
        years: number of years, at least 2.

    Shape:
        ``(B, in_features)`` to float32 ``(B, years)``.

    Raises:
        ValueError: if ``years`` is below 2.
    """

    def __init__(self, in_features: int, years: int) -> None:
        super().__init__()
        if years < 2:
            raise ValueError(f"years must be at least 2, got {years}")
        self.base = nn.Linear(in_features, 1)
        self.hazards = nn.Linear(in_features, years - 1)
        # From zero each year would add 0.69 to the logit, and the sixth year begin near certainty.
        nn.init.constant_(self.hazards.bias, FIRST_BIAS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # Half precision would round a small hazard away beside the base: the sum is in float32.
        base = self.base(features).float()
        hazards = F.softplus(self.hazards(features).float())
        return torch.cat([base, base + hazards.cumsum(dim=1)], dim=1)
