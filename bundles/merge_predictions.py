"""``python -m bundles.merge_predictions``: one ``predictions.json`` of an inference in shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cohorts.run_command import run_command
from cohorts.shard_records import read_shards, stale_shard
from handlers.predictions_file import PREDICTIONS, write_predictions
from handlers.scan_records import ScanRecord, kept_record
from handlers.scan_report import ScanTable


def merge_predictions(folder: Path) -> list[str]:
    """Write ``predictions.json`` and the table of all shards as one run would have.

    Returns:
        A sentence for each scan that failed.

    Raises:
        ValueError: a shard is missing, or another than when it was done; names it.
        OSError: the folder cannot be written.
    """
    merged = read_shards(folder)
    scans: list[ScanRecord] = []
    failed = []
    for shard, outcome in merged.outcomes:
        if "failed" in outcome:
            failed.append(outcome["failed"])
            continue
        record = kept_record(folder, outcome["name"], outcome["fingerprint"])
        if record is None:
            raise stale_shard(folder, shard, outcome["name"])
        scans.append(record)
    table = merged.run["table"]
    write_predictions(
        folder,
        merged.run["header"],
        scans=scans,
        failed=failed,
        table=None if table is None else ScanTable(*table),
    )
    print(f"{folder / PREDICTIONS}: {len(scans)} scans, {len(failed)} failed")
    return [
        one["error"] if one["scan"] in one["error"] else f"{one['scan']}: {one['error']}"
        for one in failed
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are predicted, 1 where one failed or a shard lacks."""
    parser = argparse.ArgumentParser(
        prog="python -m bundles.merge_predictions",
        description="Write predictions.json and the table of scans that were predicted in shards "
        "(predict --shard), the same as those of one run.",
        epilog="A shard that is missing, that was of other scans, weights or settings than the "
        "newest, or whose results were changed or lost since, is named and nothing is written.",
    )
    parser.add_argument("output", type=Path, help="the --output of the shards")
    options = parser.parse_args(arguments)
    return run_command(lambda: merge_predictions(options.output), options.output)


if __name__ == "__main__":
    sys.exit(main())
