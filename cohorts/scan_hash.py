"""A key under which a scan's preprocessed form can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

from monai.data.utils import pickle_hashing


def scan_hash(item: Mapping[str, Any]) -> bytes:
    """Hash of a datalist item and of the size and time of each file it names.

    MONAI's own hash of an item does not see that a file was replaced by another of its name. Of a
    folder of slices the files count, and of a MetaImage header the data beside it.
    """
    named = [Path(value) for value in item.values() if isinstance(value, str)]
    files = [file for path in named for file in _files(path)]
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, files)]
    return pickle_hashing({"item": dict(item), "stamps": stamps})


def _files(path: Path) -> list[Path]:
    if path.is_absolute() and path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if not path.is_file():
        return []
    if path.suffix.lower() != ".mhd":
        return [path]
    return sorted(file for file in path.parent.glob(f"{escape(path.stem)}.*") if file.is_file())
