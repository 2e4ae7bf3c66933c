"""``python -m cohorts.merge_shards``: the datalist of a collection converted in shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cohorts.convert_collection import merge_converted
from cohorts.run_command import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are in the datalist, 1 where one failed or a shard lacks."""
    parser = argparse.ArgumentParser(
        prog="python -m cohorts.merge_shards",
        description="Write the datalist of scans that a reader converted in shards (--shard), the "
        "same as that of one run.",
        epilog="A shard that is missing, that was of other scans or settings than the newest, or "
        "whose results were changed or lost since, is named and nothing is written.",
    )
    parser.add_argument("output", type=Path, help="the --output of the shards")
    options = parser.parse_args(arguments)
    return run_command(lambda: merge_converted(options.output), options.output)


if __name__ == "__main__":
    sys.exit(main())
