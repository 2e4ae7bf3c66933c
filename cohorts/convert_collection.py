"""A collection's scans converted, and the datalist of those that came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cohorts.collection import Collection, split_by_patient, split_counts
from cohorts.convert_scans import (
    ConvertedScan,
    Job,
    ScanJob,
    check_names,
    convert_scans,
    finished_item,
)
from cohorts.datalist import Item, write_datalist
from cohorts.shard import WHOLE, Shard
from cohorts.shard_records import Outcome, read_shards, shard_begun, stale_shard, write_shard

DATALIST = "datalist.json"


def convert_collection(
    collection: Collection,
    jobs: Sequence[Job],
    convert: Callable[[Job, Path], Item],
    folder: Path,
    *,
    workers: int,
    shard: str = WHOLE,
    settings: Mapping[str, Any] | None = None,
    failures: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> list[str]:
    """Convert the scans (:func:`cohorts.convert_scans.convert_scans`), write ``datalist.json``
    split by patient, print what is in it, and return all failures.

    Of several shards each converts its part into the same folder, and :func:`merge_converted`
    writes the datalist of all.

    Args:
        collection: the scans' own; another ``version`` of it converts all anew.
        jobs: the scans, in the same order for all shards.
        convert: of one scan.
        folder: of the datalist.
        workers: processes.
        shard: the part of the jobs to convert, ``i/n``.
        settings: of the reader.
        failures: a sentence for each failure before the conversion.
        left_out: the same for each scan left out.

    Raises:
        ValueError: neither a scan nor a failure came out, or as ``convert_scans``.
        OSError: the folder cannot be written or the disk is full.
    """
    part = Shard.parse(shard)
    check_names(jobs)
    run = {
        "scans": len(jobs),
        "jobs": _digest(jobs),
        "datalist": collection.datalist({}, settings or {}),
        "failures": list(failures),
        "left_out": list(left_out),
    }
    _check_any([*jobs, *failures], left_out, folder)
    with shard_begun(folder, part):
        converted = convert_scans(
            part.part(jobs), convert, folder, version=collection.version, workers=workers
        )
        if part.count == 1:
            return _finish(run, converted.items, converted.failures, converted.left_out, folder)
        write_shard(folder, part, run, list(map(_outcome, converted.scans)))
    print(
        f"{folder}: shard {part}, {len(converted.items)} of {len(jobs)} scans; once all shards "
        f"are done: python -m cohorts.merge_shards {folder}"
    )
    # What went wrong before the conversion did so in all shards: one of them says it.
    return [*(failures if part.index == 0 else ()), *converted.failures]


def merge_converted(folder: Path) -> list[str]:
    """Write the datalist of all shards as one run would have, and return all failures.

    Raises:
        ValueError: a shard is missing, or another than when it was done; names it.
        OSError: the folder cannot be written.
    """
    merged = read_shards(folder)
    items = []
    for shard, outcome in merged.outcomes:
        if "failure" in outcome or "left_out" in outcome:
            continue
        item = finished_item(outcome["name"], folder, outcome["fingerprint"])
        if item is None:
            raise stale_shard(folder, shard, outcome["name"])
        items.append(item)
    failures, left_out = (
        [outcome[key] for _, outcome in merged.outcomes if key in outcome]
        for key in ("failure", "left_out")
    )
    return _finish(merged.run, items, failures, left_out, folder)


def _finish(
    run: Mapping[str, Any],
    items: Sequence[Item],
    failures: Sequence[str],
    left_out: Sequence[str],
    folder: Path,
) -> list[str]:
    failures = [*run["failures"], *failures]
    left_out = [*run["left_out"], *left_out]
    _check_any([*items, *failures], left_out, folder)
    for sentence in left_out:
        print(f"left out: {sentence}")
    if items:
        path = folder / DATALIST
        datalist = {**run["datalist"], **split_by_patient(items)}
        write_datalist(datalist, path)
        print(f"{path}: {split_counts(datalist)}")
    return failures


def _check_any(found: Sequence[Any], left_out: Sequence[str], folder: Path) -> None:
    if not found:
        reason = left_out[0] if left_out else "none found"
        raise ValueError(f"{folder}: at least one scan must be converted, got none: {reason}")


def _outcome(scan: ConvertedScan) -> Outcome:
    """All but the item, which is in a file of its own."""
    record = {"name": scan.name, "fingerprint": scan.fingerprint}
    ends = {"failure": scan.failure, "left_out": scan.left_out}
    return {**record, **{key: reason for key, reason in ends.items() if reason is not None}}


def _digest(jobs: Sequence[ScanJob]) -> str:
    """Of what all shards must agree on; the sources' sizes and times are each shard's own."""
    digest = hashlib.sha256()
    for job in jobs:
        digest.update(json.dumps(asdict(job), sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()
