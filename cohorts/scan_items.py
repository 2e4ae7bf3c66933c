"""Datalist items for scans named by file or folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mhd", ".mha")


def scan_items(scans: str | Path | Sequence[str | Path]) -> list[dict[str, str]]:
    """One datalist item for each scan that the given paths name, in the given order, once each.

    A file is one scan. A folder that holds NIfTI or MetaImage files is one scan for each of
    them; a folder that holds only other files is one DICOM series; a folder that holds only
    folders is searched in them. Hidden files and the DICOMDIR of a CD are passed by. A path that
    does not exist stays an item, so that it fails by itself when it is read and the others are
    still processed.

    Args:
        scans: a path or a list of paths.

    Returns:
        ``[{"image": path, "source": path}, ...]``; ``source`` stays a string when ``image`` is
        loaded.

    Raises:
        ValueError: no path was given.
    """
    paths = [scans] if isinstance(scans, (str, Path)) else list(scans)
    if not paths or not all(str(path).strip() for path in paths):
        raise ValueError(f"scans must name at least one scan, got {scans!r}")
    found = [scan for path in paths for scan in _scans_at(Path(path))]
    return [{"image": scan, "source": scan} for scan in dict.fromkeys(map(str, found))]


def _scans_at(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    children = sorted(
        child
        for child in path.iterdir()
        if not child.name.startswith(".") and child.name != "DICOMDIR"
    )
    volumes = [child for child in children if child.name.lower().endswith(VOLUME_SUFFIXES)]
    folders = [child for child in children if child.is_dir()]
    if volumes:
        return volumes
    if folders and len(folders) == len(children):
        return [scan for folder in folders for scan in _scans_at(folder)]
    return [path]
