"""A cache on disk filled before it is used, in several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Protocol

from tqdm import tqdm

from cohorts.worker_pool import map_in_workers
from transforms.scan_error import ScanError

Item = Mapping[str, Any]


class ItemCache(Protocol):
    """Keeps what is made of an item; it may go to other processes."""

    def holds(self, item: Item, /) -> bool:
        """Whether the item is kept."""
        ...

    def __call__(self, item: Any, /) -> Any:
        """What is kept of the item, made at its first use.

        Raises:
            ScanError: it cannot be made.
        """
        ...


def fill_cache(cache: ItemCache, items: Sequence[Item], workers: int) -> list[str]:
    """Keep every item that is not kept yet; one that is listed several times is done once.

    Returns:
        A sentence for each item that could not be made, when all others are kept.

    Raises:
        OSError: the cache cannot be written or has no room, or a worker was killed.
    """
    distinct = distinct_items(items)
    with ThreadPoolExecutor(workers) as pool:
        held = list(pool.map(cache.holds, distinct))
    missing = [item for item, there in zip(distinct, held, strict=True) if not there]
    if not missing:
        return []
    failures = []
    done = len(distinct) - len(missing)
    try:
        with tqdm(total=len(distinct), initial=done, desc="patch cache", unit="scan") as bar:
            for failure in map_in_workers(partial(_kept, cache), missing, workers):
                if failure is not None:
                    failures.append(failure)
                bar.update()
    except BrokenProcessPool as error:
        raise OSError(
            "every worker that fills the cache must live to its end, got one killed; try fewer, "
            "and the scans done so far are kept"
        ) from error
    return failures


def distinct_items(items: Sequence[Item]) -> list[Item]:
    """The items in their order, one that is listed several times once."""
    return list({id(item): item for item in items}.values())


def _kept(cache: ItemCache, item: Item) -> str | None:
    """Why the item cannot be kept, if so."""
    try:
        cache(item)
    except (ScanError, RuntimeError) as error:
        # MONAI's Compose hides what a transform raised behind a RuntimeError.
        cause = error.__cause__ if isinstance(error.__cause__, ScanError) else error
        if isinstance(cause, ScanError):
            return str(cause)
        raise
    return None
