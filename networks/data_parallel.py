"""A network that several processes train as one."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from networks.synced_batch_norm import sync_batch_norms


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` for the trainer of each rank: one step on all their batches together.

    Gradients are averaged over the ranks, and batch norms see the batches of all, so that a loss
    that is a mean over samples gives the steps of one process with all the samples.

    ``network`` itself is to be saved, evaluated and given to the optimizer: it has the same
    parameters, and ranks may call it as often as each likes. With one rank it is what is returned.

    Args:
        network: on ``device``; its batch norms are replaced, its state keeps its names.
        device: of this rank.
    """
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return network
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(network, device_ids=[device], broadcast_buffers=False)
    sync_batch_norms(network)
    return DistributedDataParallel(network, broadcast_buffers=False)
