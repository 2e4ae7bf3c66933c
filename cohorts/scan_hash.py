"""A key under which a scan's preprocessed form can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data.utils import pickle_hashing


def scan_hash(item: Mapping[str, Any]) -> bytes:
    """Hash of a datalist item and of the size and time of each file it names.

    MONAI's own hash of an item does not see that a file was replaced by another of its name.
    """
    files = [value for value in item.values() if isinstance(value, str) and Path(value).is_file()]
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, map(Path, files))]
    return pickle_hashing({"item": dict(item), "stamps": stamps})
