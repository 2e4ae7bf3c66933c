"""A module that keeps only its input for the way back, and computes the rest once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def gradient_checkpoint(module: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """``module(features)`` with gradient checkpointing (arXiv:1604.06174).

    Gradients and batch norms are those of the plain call: running statistics count the batch once,
    though it passes twice. The module must not draw random numbers.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _kept_statistics(module)

    output = checkpoint(
        module, features, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    assert isinstance(output, torch.Tensor)
    return output


@contextmanager
def _kept_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms as in training, but for their running statistics, which stay.

    A momentum of 0 does that within the same operation; without tracking, or with a copy put back
    later, autograd would find other tensors than on the way forth.
    """
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats
    ]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.clone()
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = batches
