"""A collection's scans converted, and the datalist of those that came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cohorts.collection import Collection, split_by_patient, split_counts
from cohorts.convert_scans import Job, convert_scans
from cohorts.datalist import Item, write_datalist


def convert_collection(
    collection: Collection,
    jobs: Sequence[Job],
    convert: Callable[[Job, Path], Item],
    folder: Path,
    *,
    workers: int,
    settings: Mapping[str, Any] | None = None,
    failures: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> list[str]:
    """Convert the scans (:func:`cohorts.convert_scans.convert_scans`), write ``datalist.json``
    split by patient, print what is in it, and return all failures.

    Args:
        collection: the scans' own; another ``version`` of it converts all anew.
        jobs: the scans.
        convert: of one scan.
        folder: of the datalist.
        workers: processes.
        settings: of the reader.
        failures: a sentence for each failure before the conversion.
        left_out: the same for each scan left out.

    Raises:
        ValueError: neither a scan nor a failure came out, or as ``convert_scans``.
        OSError: the folder cannot be written or the disk is full.
    """
    converted = convert_scans(jobs, convert, folder, version=collection.version, workers=workers)
    failures = [*failures, *converted.failures]
    left_out = [*left_out, *converted.left_out]
    if not converted.items and not failures:
        reason = left_out[0] if left_out else "none found"
        raise ValueError(f"{folder}: at least one scan must be converted, got none: {reason}")
    for sentence in left_out:
        print(f"left out: {sentence}")
    if converted.items:
        path = folder / "datalist.json"
        datalist = collection.datalist(split_by_patient(converted.items), settings or {})
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
    return failures
