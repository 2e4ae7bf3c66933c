"""The lecture's loss for several lesions, none of which may be left out."""

from __future__ import annotations

import torch

from losses.lesion_floor import lesion_floor
from losses.log_mass import MarkedCells, log_mass, marked_cells


def lesion_attention_loss(scores: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean over a sample's lesions of ``-log sum(alpha * A_k)``, less its floor.

    On the union of the lesions, attention on any one of them is perfect. Here each lesion asks for
    its share. As the weights sum to one, they cannot all have all of it, so the mean has a floor
    (:func:`lesion_floor`), log K for K lesions apart. It is taken off, so that the best attention
    costs nothing whether a scan has few lesions or many. For one lesion this is
    `attention_loss`, whose precision and gradient far from the lesion it shares.

    Args:
        scores: ``(B, *spatial)``, before the softmax.
        masks: ``(B, L, *spatial)``, any type, above zero in the lesion; a channel may be empty.

    Returns:
        ``(B,)`` in nats: 0 for attention that serves all lesions as well as any can, and 0 without
        gradient for a sample without a lesion.

    Raises:
        ValueError: if the shapes differ other than by the axis of the lesions.
    """
    if masks.ndim != scores.ndim + 1 or scores.shape != masks[:, 0].shape:
        raise ValueError(
            f"masks must have the shape of scores and an axis of lesions after the first, got "
            f"{tuple(masks.shape)} for {tuple(scores.shape)}"
        )
    cells = marked_cells(masks.flatten(2))
    costs = -log_mass(scores.flatten(1), cells, torch.ones_like(cells.columns))
    lesions = [_lesions(cells, sample) for sample in range(len(scores))]
    counts = costs.new_tensor([max(len(each), 1) for each in lesions])
    floors = costs.new_tensor([lesion_floor(each) for each in lesions])
    # Rounding can leave perfect attention a hair below zero.
    return (costs.sum(dim=1) / counts - floors).clamp(min=0)


def _lesions(cells: MarkedCells, sample: int) -> torch.Tensor:
    """The lesions of one sample over the cells that any of them marks, bool ``(K, M)``."""
    own = cells.samples == sample
    _, lesion = cells.lesions[own].unique(return_inverse=True)
    _, column = cells.columns[own].unique(return_inverse=True)
    size = [int(index.max()) + 1 if len(index) else 0 for index in (lesion, column)]
    table = torch.zeros(size, dtype=torch.bool, device=lesion.device)
    table[lesion, column] = True
    return table
