"""The files of MONAI's PersistentDataset, made ahead of a training."""

from __future__ import annotations

import copy
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data import PersistentDataset


class DiskCache:
    """Keeps scans as a PersistentDataset does, for :func:`cohorts.fill_cache.fill_cache`.

    MONAI writes a file in the folder for temporary files and moves it. Here that folder is the
    cache's own, so that the move is one step of which a killed process leaves no half.

    Args:
        dataset: whose cache it is, with a ``cache_dir``; its data are not read.
    """

    def __init__(self, dataset: PersistentDataset) -> None:
        self.folder = Path(str(dataset.cache_dir))
        self.dataset = copy.copy(dataset)
        self.dataset.data = []  # which would go to every process

    def holds(self, item: Mapping[str, Any]) -> bool:
        """Whether the item is kept; a file that was not written to its end is removed."""
        name = self.dataset.hash_func(item).decode() + self.dataset.transform_hash
        path = self.folder / f"{name}.pt"
        if zipfile.is_zipfile(path):  # which ends with its index
            return True
        path.unlink(missing_ok=True)
        return False

    def __call__(self, item: Mapping[str, Any]) -> Any:
        """The sample of an item, made and kept where it is missing."""
        alone = copy.copy(self.dataset)
        alone.data = [item]
        before, tempfile.tempdir = tempfile.tempdir, str(self.folder)
        try:
            return alone[0]
        finally:
            tempfile.tempdir = before
