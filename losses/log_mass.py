"""The logarithm of the attention inside small parts of large maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

_BLOCK = 1024


class MarkedCells(NamedTuple):
    """Cells above zero of masks ``(B, L, N)``: three vectors ``(M,)`` of indices, and L."""

    samples: torch.Tensor
    lesions: torch.Tensor
    columns: torch.Tensor
    channels: int


def marked_cells(masks: torch.Tensor) -> MarkedCells:
    """The cells above zero of masks ``(B, L, N)`` that are nowhere below it, in order.

    Looks at blocks first: a lesion fills few of them, and `nonzero` is slow.
    """
    batch, channels, size = masks.shape
    spare = -size % _BLOCK
    blocks = (pad(masks, (0, spare)) if spare else masks).reshape(batch, channels, -1, _BLOCK)
    sample, lesion, block = blocks.amax(dim=3).nonzero(as_tuple=True)
    found, offset = blocks[sample, lesion, block].nonzero(as_tuple=True)
    columns = block[found] * _BLOCK + offset
    return MarkedCells(sample[found], lesion[found], columns, channels)


def log_mass(scores: torch.Tensor, cells: MarkedCells, values: torch.Tensor) -> torch.Tensor:
    """``log sum(alpha * A)`` with ``alpha = softmax(scores)``, however small the sum.

    `log_softmax` would do, but adds up a row of 819,200 in sequence and is off by 5e-5 there.

    Args:
        scores: ``(B, N)``, before the softmax over each row.
        cells: where ``A`` is not zero.
        values: ``(M,)`` what ``A`` is there.

    Returns:
        ``(B, L)`` in float32 or wider whatever the scores' type and the autocast; 0 without
        gradient where nothing is marked.
    """
    mass: torch.Tensor = _LogMass.apply(scores, *cells, values)
    return mass


class _LogMass(torch.autograd.Function):
    """One fused softmax serves the values and the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: torch.Tensor,
        samples: torch.Tensor,
        lesions: torch.Tensor,
        columns: torch.Tensor,
        channels: int,
        values: torch.Tensor,
    ) -> torch.Tensor:
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        weights = wide.softmax(dim=1)
        # The softmax divided by a sum that it had rounded; what the weights add up to corrects it.
        total = weights.sum(dim=1)
        log_partition = wide.amax(dim=1) + (total / weights.amax(dim=1)).log()
        # A logsumexp for every lesion of every sample at once.
        group = samples * channels + lesions
        agreement = wide[samples, columns] + values.to(wide.dtype).log()
        peak = wide.new_full((len(scores) * channels,), -torch.inf)
        peak.scatter_reduce_(0, group, agreement, "amax")
        share = (agreement - peak[group]).exp()
        mass = torch.zeros_like(peak).index_add_(0, group, share)
        share /= mass[group]
        ctx.save_for_backward(weights, total, samples, columns, group, share)
        ctx.scores_dtype = scores.dtype
        logs = (peak + mass.log()).view(-1, channels) - log_partition[:, None]
        return logs.masked_fill_(logs.isneginf(), 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weights, total, samples, columns, group, share = ctx.saved_tensors
        pull = share * upstream.flatten()[group]
        push = torch.zeros_like(total).index_add_(0, samples, pull) / total
        gradient = weights * -push[:, None]
        gradient.index_put_((samples, columns), pull, accumulate=True)
        return gradient.to(ctx.scores_dtype), None, None, None, None, None
