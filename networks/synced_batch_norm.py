"""Batch norm over the batches of all ranks, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of all ranks' batches, which may differ in size.

    For CPUs: ``torch.nn.SyncBatchNorm``, which GPUs take, has no other. Every rank must call it as
    often. In evaluation, or with one rank, it is the plain batch norm.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        plain = input.as_subclass(torch.Tensor)  # a MetaTensor's parts look for their metadata
        wide = plain.to(torch.promote_types(plain.dtype, torch.float32))
        axes = [axis for axis in range(input.dim()) if axis != 1]
        values = wide.new_tensor([input.numel() / input.shape[1]])
        total = _SumOverRanks.apply(torch.cat([wide.sum(dim=axes), values]))
        count = total[-1].detach()
        mean = total[:-1] / count
        shape = [1, -1, *[1] * (input.dim() - 2)]
        centred = wide - mean.view(shape)
        # Of what is centred: a difference of two large sums would leave no digits.
        variance = _SumOverRanks.apply(centred.square().sum(dim=axes)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape)).to(plain.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Whatever the plain batch norms took."""


def sync_batch_norms(network: nn.Module) -> None:
    """Replaces the batch norms within ``network``; parameters and state keep names and tensors."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            setattr(network, name, _synced(child))
        else:
            sync_batch_norms(child)


def _synced(norm: _BatchNorm) -> SyncedBatchNorm:
    synced = SyncedBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        setattr(synced, name, tensor)
    return synced.train(norm.training)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
        # Every rank's loss hangs on every rank's values.
        total = gradient.clone()
        dist.all_reduce(total)
        return total
