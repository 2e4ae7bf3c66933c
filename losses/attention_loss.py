"""The lecture's loss on attention maps."""

from __future__ import annotations

import torch
from torch import nn

from losses.lesion_attention_loss import lesion_attention_loss
from losses.log_mass import log_mass, marked_cells


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
    masks = mask.flatten(1)[:, None]
    cells = marked_cells(masks)
    values = masks[cells.samples, cells.lesions, cells.columns]
    # Rounding can leave perfect attention a hair below zero.
    return (-log_mass(scores.flatten(1), cells, values)[:, 0]).clamp(min=0)


class AttentionLoss(nn.Module):
    """Mean of `attention_loss` over a batch, for one head of the network.

    A sample with an empty mask counts as zero, so that the loss of a batch is the mean of the
    losses of its parts, on one device or on many.

    Args:
        head: which head of the scores the mask supervises.
        per_lesion: ask for every lesion (`lesion_attention_loss`), not for any part of their union.

    Shape:
        scores ``(B, heads, *spatial)`` and mask ``(B, L, *spatial)``, a channel for each lesion,
        to a scalar.
    """

    def __init__(self, head: int, per_lesion: bool = False) -> None:
        super().__init__()
        self.head = head
        self.per_lesion = per_lesion

    def forward(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.head >= scores.shape[1]:
            raise ValueError(
                f"head must be below the number of heads, got {self.head} of {scores.shape[1]}"
            )
        judged = scores[:, self.head]
        if self.per_lesion:
            return lesion_attention_loss(judged, mask).mean()
        return attention_loss(judged, mask.amax(dim=1)).mean()
