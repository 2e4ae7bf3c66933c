"""Scans cached on disk before a training begins, of which each sample reads one patch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import Dataset
from monai.transforms import Compose

from cohorts.fill_cache import fill_cache
from transforms import CachedVolumesd, ScanError

logger = logging.getLogger(__name__)

Item = Mapping[str, Any]


class PatchCacheDataset(Dataset):
    """MONAI's CacheDataset with the cache on disk: memory holds no volume, a patch is read alone.

    The cache is filled here, in several processes and with a progress bar. Scans that an earlier
    run kept are checked and not computed again; a run that was stopped goes on where it was.

    Args:
        data: items of a datalist; one that is listed several times is kept once.
        cache: from an item to stored volumes.
        transform: what follows, random crop and all.
        num_workers: processes that fill the cache; 0 is this one, as for CacheDataset.

    Raises:
        ScanError: scans that could not be read, when all others are kept.
        OSError: the cache cannot be written or has no room, or a worker was killed.
    """

    def __init__(
        self,
        data: Sequence[Item],
        cache: CachedVolumesd,
        transform: Sequence[Callable[..., Any]] | Compose,
        *,
        num_workers: int = 1,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        failures = fill_cache(cache, data, max(1, num_workers))
        for failure in failures:
            logger.error(failure)
        if failures:
            others = f" (and {len(failures) - 1} more, listed above)" if len(failures) > 1 else ""
            raise ScanError(f"{failures[0]}{others}; all other scans are cached")
        # In one line with the cache: within a Compose of its own it would draw other numbers.
        steps = transform.transforms if isinstance(transform, Compose) else transform
        super().__init__(data, Compose([cache, *steps]))
