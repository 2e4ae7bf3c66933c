"""``python -m benchmarks.cohort_cost``: what one scan costs to convert, to cache and to predict.

``python -m benchmarks.cohort_plan`` works out from it what a whole cohort takes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser

from benchmarks.dicom_slices import write_slices
from benchmarks.fresh_process import PEAK, in_fresh_process, memory_gib
from benchmarks.report import Row, write_report
from benchmarks.wall_and_cpu import wall_and_cpu_s
from bundles.bundle_config import bundle_configs, bundle_names, config_files, merged_config
from bundles.fill_cache import training_cache
from cohorts import CohortSettings, ScannerSettings, load_datalist, make_cohort
from cohorts.dicom_scan import read_dicom_scan
from cohorts.dicom_series import find_series
from transforms import load_scan

FIND, CONVERT, CACHE, PREDICT = "find", "convert", "cache", "predict"
CPU, WALL, MEMORY, WRITTEN = "CPU time", "wall time", "peak memory", "written"
CACHES = ("patch_cache", "disk_cache")
SMALLER = "two_cores"
SHAPE, EXTENT_MM = (512, 512, 200), (380.0, 380.0, 250.0)
_WARM_UP_SHAPE = (48, 48, 32)
_NOTES = (
    "One thread, a process of its own each time, after a small scan that loads what is loaded "
    "late; a program's start is not in it. Medians; of memory the highest, with the program's own.",
    "find: the folder and the first header of a series, which every shard looks up of all series. "
    "convert: an uncompressed DICOM series to .nii.gz, as the readers of DICOM collections do it. "
    "cache: what bundles.fill_cache makes of a scan. predict: file to results.",
    "The networks have random weights, which cost what trained ones do, and find nothing: pictures "
    "of findings and the measuring of nodules come on top.",
)


class Place(NamedTuple):
    """A scan, and where what is made of it goes.

    Attributes:
        series: folder of its DICOM series.
        datalist: that has it as its only testing item.
        weights: folder with ``<setting>.pt`` of every setting.
        output: folder of the results.
    """

    series: Path
    datalist: Path
    weights: Path
    output: Path

    @property
    def item(self) -> dict[str, Any]:
        return load_datalist(self.datalist, "testing")[0]


class Setting(NamedTuple):
    """A bundle with overlays of its training."""

    bundle: str
    overlays: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.bundle, *self.overlays))

    def config(self, workflow: str, **overrides: Any) -> ConfigParser:
        files = config_files(self.bundle, workflow, self.overlays)
        root = str(bundle_configs(self.bundle).parent)
        places = {"bundle_root": root, "device": "$torch.device('cpu')"}
        return ConfigParser(merged_config(files, {**places, **overrides}))


class Cost(NamedTuple):
    """Of one scan: seconds by both clocks, memory of the process, and the size of what it wrote."""

    wall_s: float
    cpu_s: float
    peak_gib: float
    written_mb: float


#: What is done with the scan of a place.
Task = Callable[..., None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cohort_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each")
    parser.add_argument("--shrink", type=int, default=1, help="coarser by so much, for a trial")
    options = parser.parse_args()
    for name in ("rounds", "shrink"):
        if (value := getattr(options, name)) < 1:
            parser.error(f"--{name} must be 1 or more, got {value}")
    shape = [size // options.shrink for size in SHAPE]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = phantom(folder, shape)
        small = phantom(folder / "small", _WARM_UP_SHAPE)
        rows = []
        for what, task, settings in tasks():
            rows += cost_rows(what, task, (small, place, *settings), options.rounds)
    about = (
        f"A phantom of {'x'.join(map(str, shape))} voxels and "
        f"{'x'.join(f'{mm:g}' for mm in EXTENT_MM)} mm with a scanner's noise; {options.rounds} "
        "processes of each.",
    )
    write_report("cohort_cost", rows, notes=(*about, *_NOTES))


def tasks() -> list[tuple[str, Task, tuple[Any, ...]]]:
    """Every step with its name and its settings."""
    found: list[tuple[str, Task, tuple[Any, ...]]] = [(FIND, find, ()), (CONVERT, convert, ())]
    for setting in sizes():
        there = _overlays(setting.bundle)
        kept = next(overlay for overlay in CACHES if overlay in there)
        cached = Setting(setting.bundle, (*setting.overlays, kept))
        found += [(f"{CACHE} {cached}", cache, (cached,))]
        found += [(f"{PREDICT} {setting}", predict, (setting,))]
    return found


def sizes() -> list[Setting]:
    """Every bundle as it is by default, and smaller where it has an overlay for that."""
    return [
        Setting(bundle, overlays)
        for bundle in bundle_names()
        for overlays in ((), (SMALLER,))
        if set(overlays) <= _overlays(bundle)
    ]


def find(place: Place) -> None:
    find_series(place.series)


def convert(place: Place) -> None:
    place.output.mkdir(parents=True)
    read_dicom_scan(place.series).write(place.output / "scan.nii.gz")


def cache(place: Place, setting: Setting) -> None:
    config = setting.config("train", data_list=str(place.datalist))
    kept_in = "cache::folder" if "cache" in config["train::dataset"] else "cache_dir"
    config[f"train::dataset::{kept_in}"] = str(place.output)
    config["train::dataset::data"] = []
    training_cache(config, "train")(place.item)


def predict(place: Place, setting: Setting) -> None:
    config = setting.config(
        "inference",
        scans=place.item["image"],
        output_dir=str(place.output),
        checkpoint=str(place.weights / f"{setting}.pt"),
    )
    config.get_parsed_content("run")


def cost(task: Task, small: Place, place: Place, *settings: Any) -> Cost:
    """To be called once in a process."""
    torch.set_num_threads(1)
    task(small, *settings)
    start = wall_and_cpu_s()
    task(place, *settings)
    wall_s, cpu_s = (wall_and_cpu_s() - start).tolist()
    written = sum(path.stat().st_size for path in place.output.rglob("*") if path.is_file())
    return Cost(wall_s, cpu_s, memory_gib(PEAK), written / 1e6)


def cost_rows(
    what: str, task: Task, settings: tuple[Place | Setting, ...], rounds: int
) -> list[Row]:
    """Time, memory and size on disk of a step."""
    costs = []
    for number in range(rounds):
        given = [
            one._replace(output=one.output / f"{what}-{number}") if isinstance(one, Place) else one
            for one in settings
        ]
        costs.append(in_fresh_process(cost, task, *given))
        print(f"{what}: {costs[-1]}", flush=True)
    return [
        Row(f"{what}: {CPU}", statistics.median(one.cpu_s for one in costs), None, "s"),
        Row(f"{what}: {WALL}", statistics.median(one.wall_s for one in costs), None, "s"),
        Row(f"{what}: {MEMORY}", max(one.peak_gib for one in costs), None, "GiB"),
        Row(f"{what}: {WRITTEN}", costs[0].written_mb, None, "MB"),
    ]


def phantom(folder: Path, shape: Sequence[int]) -> Place:
    """A CT as DICOM and in a datalist, and weights of every setting's network."""
    height_mm, width_mm, depth_mm = (mm / n for mm, n in zip(EXTENT_MM, shape, strict=True))
    scanner = ScannerSettings(
        spacing_mm=(height_mm, width_mm, depth_mm), field_of_view_mm=EXTENT_MM
    )
    settings = CohortSettings(
        training=0, validation=0, testing=1, min_diameter_mm=10, scanner=scanner
    )
    datalist = make_cohort(settings, folder / "phantom", quiet=True)
    place = Place(folder / "series", datalist, folder / "weights", folder / "output")
    write_slices(load_scan(place.item["image"]), place.series)
    place.weights.mkdir()
    for setting in sizes():
        torch.manual_seed(0)
        network = setting.config("inference").get_parsed_content("network_def")
        torch.save(network.state_dict(), place.weights / f"{setting}.pt")
    return place


def _overlays(bundle: str) -> set[str]:
    return {path.stem for path in bundle_configs(bundle).glob("*.yaml")}


if __name__ == "__main__":
    main()
