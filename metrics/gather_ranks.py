"""What every rank has collected, known to all of them."""

from __future__ import annotations

from typing import TypeVar, cast

import ignite.distributed as idist

T = TypeVar("T")


def gather_ranks(value: T) -> list[T]:
    """The picklable values of all ranks, in rank order; ``[value]`` where nothing is distributed.

    Ranks may hold different numbers of scans, or none. A sampler that repeats scans so that all
    ranks hold as many would count those twice: use
    ``monai.data.DistributedSampler(even_divisible=False)``.
    """
    return cast("list[T]", idist.all_gather(value))
