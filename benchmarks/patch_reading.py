"""``python -m benchmarks.patch_reading``: a random patch from our cache and in MONAI's two ways."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import CacheDataset, Dataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandCropByPosNegLabeld,
)

from benchmarks.detector_chain import PATCH_SHAPE as CHAIN_PATCH_SHAPE
from benchmarks.detector_chain import PATCHES, chain_cost, our_chains, zoo_chains
from benchmarks.fresh_process import PEAK, RESIDENT, in_fresh_process, memory_gib
from benchmarks.report import Row, write_report
from benchmarks.scan_segmentation import phantom
from benchmarks.wall_and_cpu import wall_and_cpu_s
from cohorts import PatchCacheDataset, load_datalist
from cohorts.scan_hash import scan_hash
from transforms import CachedVolumesd, CropAroundBoxd, LoadMaskd, LoadScand

PATCH_SHAPE = (96, 96, 96)
KEYS = ("image", "mask")
_PATCHES = {"ours": 100, "cache_dataset": 10, "from_files": 3}
_NOTES = (
    "A phantom with noise of a scanner's texture, unless a datalist was given. One random patch of "
    "HU and labels on the scan's own grid at a time, half of them asked to hold a nodule.",
    "Ours: transforms.CachedVolumesd and CropAroundBoxd. CacheDataset: MONAI's, as it is by "
    "default, with LoadImaged and EnsureChannelFirstd cached and RandCropByPosNegLabeld after.",
    "Medians of patches, then of processes, in turns, with one thread each; the scan is in the "
    "system's file cache for all. CPU time holds on a machine that does other work too.",
    "Memory is the most that a process held beyond its imports, while it drew the patches; ours "
    "was filled by another process, as it is in a training with workers.",
    "The detector's chain: ours is that of lung_ct_nodule_detection with the overlay patch_cache; "
    "the peer's is that of the model zoo's lung_nodule_ct_detection with our augmentations for its "
    "own. Means, since chance decides what is augmented.",
    "A target of 200 and of 1000 times, of 5 ms, of 100 MB, of 0.9 of the .nii.gz and of 20 "
    "times for the chain was set before it was measured.",
)

Item = Mapping[str, Any]


class Cost(NamedTuple):
    """Medians of one patch in ms, by the wall clock and of CPU time, and a process's MB."""

    wall_ms: float
    cpu_ms: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patch_reading", description=__doc__)
    parser.add_argument("--datalist", type=Path, help="its first scan of testing; else a phantom")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {options.rounds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        datalist = options.datalist
        if datalist is None:
            phantom(folder / "phantom")
            datalist = folder / "phantom" / "datalist.json"
        item = load_datalist(datalist, "testing")[0]
        cache = folder / "cache"
        rows = build_rows(item, cache)
        rows = [*cost_rows(item, cache, options.rounds), *rows]
        rows += chain_rows(datalist, folder / "detector")
    write_report("patch_reading", rows, notes=_NOTES)


def build_rows(item: Item, folder: Path) -> list[Row]:
    """Time to fill the cache and its size on disk."""
    start = wall_and_cpu_s()
    volumes = volume_cache(folder)(item)
    _, cpu_s = wall_and_cpu_s() - start
    sizes = [(_mb(volumes[key].path), _mb(Path(item[key]))) for key in KEYS]
    (image, image_gz), (both, both_gz) = sizes[0], np.sum(sizes, axis=0).tolist()
    return [
        Row("disk: image, peer its .nii.gz", image, image_gz, "MB"),
        Row("disk: image and mask, peer their .nii.gz", both, both_gz, "MB"),
        Row("filling the cache: CPU time", float(cpu_s), None, "s"),
    ]


def cost_rows(item: Item, cache: Path, rounds: int) -> list[Row]:
    """Times and memory of all three, measured in turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in _PATCHES}
    for _ in range(rounds):
        for name, done in costs.items():
            done.append(in_fresh_process(cost, name, item, cache))
            print(f"{name}: {done[-1]}", flush=True)
    ours, cached, files = (
        Cost(
            statistics.median(one.wall_ms for one in done),
            statistics.median(one.cpu_ms for one in done),
            max(one.peak_mb for one in done),
        )
        for done in costs.values()
    )
    what = f"random {'x'.join(map(str, PATCH_SHAPE))} patch of image and mask"
    rows = []
    for name, peer in (
        ("CacheDataset", cached),
        ("LoadImaged + RandCropByPosNegLabeld", files),
    ):
        rows += [
            Row(f"{what}, peer {name}", ours.wall_ms, peer.wall_ms, "ms"),
            Row(f"{what}, peer {name}: CPU time", ours.cpu_ms, peer.cpu_ms, "ms"),
            Row(f"memory of a worker, peer {name}", ours.peak_mb, peer.peak_mb, "MB"),
        ]
    return rows


def chain_rows(datalist: Path, cache: Path) -> list[Row]:
    """The detector's whole training chain, for the patches of one scan."""
    # The peer reads for seconds whatever the augmentations do; for ours they are most of it.
    ours, zoo = (
        in_fresh_process(chain_cost, chains, datalist, cache, rounds)
        for chains, rounds in ((our_chains, 16), (zoo_chains, 4))
    )
    shape = "x".join(map(str, CHAIN_PATCH_SHAPE))
    what = f"detector's training chain, {PATCHES} patches of {shape}"
    zoo_name = "peer model zoo"
    return [
        Row(f"{what}, {zoo_name}: CPU time", ours.augmented_s, zoo.augmented_s, "s"),
        Row(f"{what}, no augmentation, {zoo_name}: CPU time", ours.plain_s, zoo.plain_s, "s"),
    ]


def cost(name: str, item: Item, cache: Path) -> Cost:
    """To be called once in a process."""
    torch.set_num_threads(1)
    held_gib = memory_gib(RESIDENT)
    dataset = READERS[name](item, cache)
    dataset[0]
    times = []
    for _ in range(_PATCHES[name]):
        start = wall_and_cpu_s()
        patch = _only(dataset[0])
        assert all(patch[key].shape == (1, *PATCH_SHAPE) for key in KEYS)
        times.append(wall_and_cpu_s() - start)
    wall_ms, cpu_ms = (1e3 * np.median(times, axis=0)).tolist()
    return Cost(wall_ms, cpu_ms, (memory_gib(PEAK) - held_gib) * 2**30 / 1e6)


def volume_cache(folder: Path) -> CachedVolumesd:
    return CachedVolumesd(
        KEYS, [LoadScand("image"), LoadMaskd("mask")], folder=folder, hash_func=scan_hash
    )


def ours(item: Item, cache: Path) -> Dataset:
    crop = CropAroundBoxd(KEYS, PATCH_SHAPE, positive_share=0.5)
    return PatchCacheDataset([item], volume_cache(cache), [crop])


def cache_dataset(item: Item, _: Path) -> Dataset:
    return CacheDataset([_files(item)], monai_chain(), progress=False)


def from_files(item: Item, _: Path) -> Dataset:
    return Dataset([_files(item)], monai_chain())


READERS: dict[str, Callable[[Item, Path], Dataset]] = {
    reader.__name__: reader for reader in (ours, cache_dataset, from_files)
}


def monai_chain() -> Compose:
    crop = RandCropByPosNegLabeld(KEYS, label_key="mask", spatial_size=PATCH_SHAPE)
    return Compose([LoadImaged(KEYS), EnsureChannelFirstd(KEYS), crop])


def _files(item: Item) -> dict[str, str]:
    return {key: item[key] for key in KEYS}


def _only(samples: Any) -> Mapping[str, Any]:
    """MONAI's random crops give lists."""
    return samples[0] if isinstance(samples, Sequence) else samples


def _mb(path: Path) -> float:
    return os.path.getsize(path) / 1e6


if __name__ == "__main__":
    main()
