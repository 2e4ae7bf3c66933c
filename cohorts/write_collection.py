"""The end of a reader: the datalist of what was converted, and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cohorts.collection import Collection, split_by_patient, split_counts
from cohorts.convert_scans import ConvertedScans
from cohorts.datalist import write_datalist


def write_collection(
    collection: Collection,
    converted: ConvertedScans,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    failures: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> list[str]:
    """Write ``datalist.json`` split by patient, print what is in it, and return all failures.

    Args:
        collection: the scans' own.
        converted: the scans.
        folder: of the datalist.
        settings: of the reader.
        failures: a sentence for each failure before the conversion.
        left_out: the same for each scan left out.

    Raises:
        ValueError: neither a scan nor a failure came out.
    """
    failures = [*failures, *converted.failures]
    left_out = [*left_out, *converted.left_out]
    if not converted.items and not failures:
        reason = left_out[0] if left_out else "none found"
        raise ValueError(f"{folder}: at least one scan must be converted, got none: {reason}")
    for sentence in left_out:
        print(f"left out: {sentence}")
    if converted.items:
        path = folder / "datalist.json"
        datalist = collection.datalist(split_by_patient(converted.items), settings)
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
    return failures
