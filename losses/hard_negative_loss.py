"""A classification that learns from its worst false alarms only."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


class HardNegativeLoss(nn.Module):
    """Binary cross entropy of each sample's positives and of its hardest negatives, 0 elsewhere.

    The hardest negatives (SSD, arXiv:1512.02325) are those with the highest logits,
    ``negatives_per_positive`` for each positive and at least ``min_negatives``, from which a sample
    without a positive learns too; of equal logits the first cells. MONAI's ``HardNegativeSampler``
    draws by chance from a larger pool.

    Args:
        negatives_per_positive: 0 or more.
        min_negatives: 1 or more.

    Shape:
        logits, targets: ``(B, 1, cells)``, targets 0 or 1.
        loss: as the logits; gradients are zero where it is 0.
    """

    def __init__(self, negatives_per_positive: int, min_negatives: int) -> None:
        super().__init__()
        if negatives_per_positive < 0 or min_negatives < 1:
            raise ValueError(
                f"negatives_per_positive must be at least 0 and min_negatives at least 1, "
                f"got {negatives_per_positive} and {min_negatives}"
            )
        self.negatives_per_positive = negatives_per_positive
        self.min_negatives = min_negatives

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_positive = targets > 0
        taught = is_positive.clone()
        for sample, positive in enumerate(is_positive):
            count = max(self.min_negatives, self.negatives_per_positive * int(positive.sum()))
            taught[sample] |= _hardest(logits[sample].detach(), ~positive, count)
        values = binary_cross_entropy_with_logits(logits[taught], targets[taught], reduction="none")
        # Not in the logits' dtype: autocast gives values of float32 for those of bfloat16.
        loss = values.new_zeros(logits.shape)
        loss[taught] = values
        return loss


def _hardest(logits: torch.Tensor, is_negative: torch.Tensor, count: int) -> torch.Tensor:
    """Which ``(1, cells)`` are the ``count`` negatives of the highest logits, or all there are."""
    count = min(count, int(is_negative.sum()))
    if count == 0:
        return torch.zeros_like(is_negative)
    # NaN counts as highest: left out, it would hide from those who look for it in the loss.
    values = logits.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
    values = values.masked_fill(~is_negative, -math.inf)
    # Of ties, topk takes any; so only its value counts here, and the first cells of that value.
    least = values.topk(count).values[:, -1:]
    above, tied = values > least, values == least
    return above | (tied & (tied.cumsum(dim=1) <= count - above.sum()))
