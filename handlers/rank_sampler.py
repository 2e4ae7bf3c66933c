"""The samples that one of several processes trains on."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import ignite.distributed as idist
from monai.data import DistributedSampler


def rank_sampler(dataset: Sized, *, seed: int) -> DistributedSampler:
    """This rank's samples, dealt out anew in every epoch, as many to each rank.

    Where the ranks do not divide the samples, a few of an epoch come twice: without a step on
    every rank the others would wait for ever. MONAI's engines tell the sampler of each epoch.

    Args:
        dataset: samples to draw from.
        seed: of the order, the same on all ranks.

    Raises:
        ValueError: there are more ranks than samples.
    """
    ranks = idist.get_world_size()
    if ranks > len(dataset):
        raise ValueError(
            f"there must be a sample for each rank, got {len(dataset)} for {ranks} ranks; "
            "--nproc_per_node and --nnodes of torchrun say how many are started"
        )
    data: Any = dataset
    return DistributedSampler(
        data, num_replicas=ranks, rank=idist.get_rank(), shuffle=True, seed=seed
    )
