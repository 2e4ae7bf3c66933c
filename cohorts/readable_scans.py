"""Scans read one by one, where a bad one is written down and the rest still come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm

from cohorts.shard import WHOLE, Shard

logger = logging.getLogger(__name__)


class ReadableScans(IterableDataset):
    """The scans of a list that can be read, one at a time; the others are written down.

    Whatever goes wrong with one scan is logged in one sentence and kept in ``failures``, and the
    next scan comes. Iterating anew starts a new list of failures. It has no length, since the
    engine would start over to make up for scans that failed.

    Args:
        items: dicts with the path under ``image``; ``source``, where given, names the scan in
            messages.
        transform: makes a sample from an item.
        shard: the part of the items that is read, ``i/n`` counted from 0.

    Attributes:
        items: all of them.
        shard: as given.
        part: the items of the shard.
        failures: ``{"scan", "error"}`` of each scan that failed, in the order of the items.

    Raises:
        ValueError: ``items`` is empty, or no such shard.
        RuntimeError: iterated in a worker process of a DataLoader, where failures would be lost;
            use ``num_workers=0``.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        transform: Callable[[dict[str, Any]], Any],
        *,
        shard: str = WHOLE,
    ) -> None:
        if not items:
            raise ValueError("items must hold at least one scan, got an empty list")
        self.items = items
        self.transform = transform
        self.shard = Shard.parse(shard)
        self.part = self.shard.part(items)
        self.failures: list[dict[str, str]] = []
        self._done: set[str] = set()

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is not None:
            raise RuntimeError(f"ReadableScans needs num_workers 0, got {worker.num_workers}")
        self.failures = []
        pending = [item for item in self.part if scan_path(item) not in self._done]
        done = len(self.part) - len(pending)
        for item in tqdm(pending, total=len(self.part), initial=done, desc="scans", unit="scan"):
            try:
                sample = self.transform(dict(item))
            except Exception as error:
                self.record_failure(scan_path(item), error)
                continue
            yield sample
            # Not kept while the next scan is read: a whole scan may take a gigabyte.
            del sample

    def pass_over(self, scans: Iterable[str]) -> None:
        """Does not read these from now on; they are done."""
        self._done = set(scans)

    def record_failure(self, scan: str, error: Exception) -> None:
        """Logs and keeps what went wrong with a scan, here or in a later step."""
        sentence = _sentence(error)
        self.failures.append({"scan": scan, "error": sentence})
        logger.error("%s", sentence if scan in sentence else f"{scan}: {sentence}")


def scan_path(item: Mapping[str, Any]) -> str:
    """The path of an item's scan, as it was given."""
    return str(item.get("source", item.get("image")))


def _sentence(error: BaseException) -> str:
    # MONAI wraps what a transform raised once for each level of Compose.
    while error.__cause__ is not None and str(error).startswith("applying transform"):
        error = error.__cause__
    message = " ".join(str(error).split())
    # The project's own rules are ValueErrors with a full sentence; others need their type.
    if message and isinstance(error, ValueError):
        return message
    return f"{type(error).__name__}: {message}".rstrip(": ")
