"""The scans that one of several processes looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import ignite.distributed as idist

from cohorts.shard import Shard

Item = TypeVar("Item")


def rank_shard(scans: Sequence[object]) -> str:
    """This rank's shard of ``scans``, as `cohorts.ReadableScans` takes it; no scan is in two.

    Raises:
        ValueError: there are more ranks than scans.
    """
    return str(_shard(scans))


def rank_share(scans: Sequence[Item]) -> list[Item]:
    """The scans of this rank's shard.

    Raises:
        ValueError: there are more ranks than scans.
    """
    return list(_shard(scans).part(scans))


def _shard(scans: Sequence[object]) -> Shard:
    ranks = idist.get_world_size()
    if ranks > len(scans):
        raise ValueError(
            f"there must be a scan for each rank, got {len(scans)} scans for {ranks} ranks; "
            "--nproc_per_node and --nnodes of torchrun say how many are started"
        )
    return Shard(idist.get_rank(), ranks)
