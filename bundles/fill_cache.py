"""``python -m bundles.fill_cache``: a training's cache on disk, filled ahead of it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.data import PersistentDataset

from bundles.bundle_config import bundle_configs, config_files, merged_config
from bundles.given_settings import given_settings
from bundles.run_bundle import check_overrides
from cohorts.disk_cache import DiskCache
from cohorts.fill_cache import ItemCache, distinct_items, fill_cache
from cohorts.run_command import run_command
from cohorts.shard import SHARD_HELP, WHOLE, Shard

PARTS = {"train": "training", "validate": "validation"}


def fill_bundle_cache(
    bundle: str,
    *,
    overlays: Sequence[str | Path],
    overrides: Mapping[str, Any],
    shard: Shard,
    workers: int,
) -> list[str]:
    """Make and keep what a training with these overlays and overrides reads of its scans.

    Args:
        bundle: name of a folder of ``bundles/``.
        overlays: as of the training, ``patch_cache`` or ``disk_cache`` among them.
        overrides: as of the training.
        shard: the part of the scans that is made.
        workers: processes.

    Returns:
        A sentence for each scan that could not be made, when all others are kept.

    Raises:
        ValueError: the training keeps no scan on disk, or a setting breaks its rule.
        OSError: the cache cannot be written or has no room, or a worker was killed.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    files = config_files(bundle, "train", overlays)
    check_overrides(overrides, merged_config(files))
    config = ConfigParser(merged_config(files, overrides))
    caches = {part: training_cache(config, part) for part in PARTS}
    failures = []
    for part, cache in caches.items():
        listed = distinct_items(config.get_parsed_content(f"{part}::dataset::data"))
        items = shard.part(listed)
        failed = fill_cache(cache, items, workers)
        made = f"{len(items) - len(failed)} of {len(listed)} scans"
        print(f"{PARTS[part]}: {made} kept" + (f", shard {shard}" if shard.count > 1 else ""))
        failures += failed
    return failures


def training_cache(config: ConfigParser, part: str) -> ItemCache:
    """The cache on disk of a training's config.

    Args:
        config: of the training.
        part: one of ``PARTS``.

    Raises:
        ValueError: it keeps no scan on disk.
    """
    dataset = config[f"{part}::dataset"]
    if "cache" in dataset:
        cache: ItemCache = config.get_parsed_content(f"{part}::dataset::cache")
        return cache
    if dataset["_target_"] == PersistentDataset.__name__:
        return DiskCache(config.get_parsed_content(f"{part}::dataset"))
    raise ValueError(
        "a cache to fill must be on disk, as with --overlay patch_cache or disk_cache, got "
        f"{dataset['_target_']} for the {PARTS[part]} scans"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when all scans are kept, 1 where one failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m bundles.fill_cache",
        description="Fill the cache on disk of a training, given as to `python -m bundles train`.",
        epilog="What is kept already stays; an interrupted run goes on with the same command. "
        "Shards may run at once: each fills its part of the one cache, and nothing is to be "
        "merged. The training makes whatever is missing.",
    )
    add = parser.add_argument
    add("bundle", help="name of the bundle, such as lung_ct_nodule_detection")
    add("--datalist", type=Path, required=True, help="datalist JSON")
    add("--overlay", action="append", default=[], help="a further file of configs/, or a path")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the config")
    add("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    add("--shard", default=WHOLE, metavar="I/N", help=SHARD_HELP)
    options = parser.parse_args(arguments)

    def work() -> list[str]:
        return fill_bundle_cache(
            options.bundle,
            overlays=options.overlay,
            overrides={
                "bundle_root": str(bundle_configs(options.bundle).parent),
                "data_list": str(options.datalist),
                **given_settings(options.set),
            },
            shard=Shard.parse(options.shard),
            workers=options.workers,
        )

    return run_command(work, options.datalist.parent)


if __name__ == "__main__":
    sys.exit(main())
