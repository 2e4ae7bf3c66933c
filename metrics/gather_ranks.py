"""What every rank has collected, known to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TypeVar, cast

import ignite.distributed as idist

T = TypeVar("T")


def gather_ranks(value: T) -> list[T]:
    """The picklable values of all ranks, in rank order; ``[value]`` of a single one."""
    return cast("list[T]", idist.all_gather(value))


def gather_scans(own: Sequence[T]) -> list[T]:
    """What the ranks keep of scans that were dealt out to them in turn, back in that order.

    So a cohort is the same list on any number of ranks, and whatever is drawn from it by chance
    the same. Ranks may hold different numbers of scans, or none. A sampler that repeats scans so
    that all ranks hold as many would count those twice: deal them out as ``cohorts.Shard`` does.
    """
    missing = object()
    rounds = zip_longest(*gather_ranks(own), fillvalue=missing)
    return [cast("T", scan) for dealt in rounds for scan in dealt if scan is not missing]
