"""How a head begins where almost everything is background."""

from __future__ import annotations

import math

import torch
from torch import nn

_PRIOR = 0.01


def start_as_background(weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Fill those of a head so that its first probabilities are near 0.01 (arXiv:1708.02002).

    The sum over all the background then does not drown the first steps.
    """
    nn.init.normal_(weight, std=0.01)
    nn.init.constant_(bias, -math.log((1 - _PRIOR) / _PRIOR))
