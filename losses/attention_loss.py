"""The lecture's loss on attention maps."""

from __future__ import annotations

import torch
from torch import nn


def attention_loss(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``-log sum(alpha * A)`` with ``alpha = softmax(scores)`` over all voxels, per sample.

    Because the weights sum to one, this also pushes attention out of every voxel outside the
    mask. Per-voxel cross entropy has no good solution under that constraint: it asks each voxel
    of the mask for a weight of one. (CPH 100A, *Localization and Segmentation*.)

    Works with logarithms throughout, in float32 or wider whatever the scores' type, and only on the
    cells of the mask: a wrong voxel far ahead of the rest still leaves a gradient, where
    ``log(p)`` of an underflowed ``p`` gives infinity and ``log(p + eps)`` none.

    Args:
        scores: ``(B, *spatial)``, before the softmax.
        mask: ``A*``, same shape, any type; above zero where attention belongs. Fractions weigh.

    Returns:
        ``(B,)`` in nats: 0 when all attention is inside the mask, and 0 without gradient for a
        sample whose mask is empty.

    Raises:
        ValueError: if the shapes differ.
    """
    if scores.shape != mask.shape:
        raise ValueError(
            f"scores and mask must have one shape, got {tuple(scores.shape)} and "
            f"{tuple(mask.shape)}"
        )
    scores, mask = scores.flatten(1), mask.flatten(1)
    return torch.stack([_sample_loss(s, m) for s, m in zip(scores, mask, strict=True)])


def _sample_loss(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    inside = mask.nonzero().squeeze(1)
    wide = torch.promote_types(scores.dtype, torch.float32)
    if len(inside) == 0:
        return scores.new_zeros((), dtype=wide)
    with torch.autocast(device_type=scores.device.type, enabled=False):
        # Shifted by the peak, both sums stay small and keep their digits. `log_softmax` would say
        # the same, but adds up a row of 819,200 in sequence and is off by 5e-5 there.
        scores = scores.to(wide) - scores.detach().max().to(wide)
        agreement = scores[inside] + mask[inside].to(wide).log()
        # Rounding can leave perfect attention a hair below zero.
        return (scores.exp().sum().log() - agreement.logsumexp(dim=0)).clamp(min=0)


class AttentionLoss(nn.Module):
    """Mean of `attention_loss` over a batch, for one head of the network.

    A sample with an empty mask counts as zero, so that the loss of a batch is the mean of the
    losses of its parts, on one device or on many.

    Args:
        head: which head of the scores the mask supervises.

    Shape:
        scores ``(B, heads, *spatial)`` and mask ``(B, 1, *spatial)`` to a scalar.
    """

    def __init__(self, head: int) -> None:
        super().__init__()
        self.head = head

    def forward(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.head >= scores.shape[1]:
            raise ValueError(
                f"head must be below the number of heads, got {self.head} of {scores.shape[1]}"
            )
        return attention_loss(scores[:, self.head], mask[:, 0]).mean()
