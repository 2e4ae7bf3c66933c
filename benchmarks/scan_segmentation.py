"""``python -m benchmarks.scan_segmentation``: a whole scan's mask, ours and MONAI's usual way.

Everything but the network, the network alone, and file to mask, each time in a fresh process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fresh_process import PEAK, RESIDENT, in_fresh_process, memory_gib
from benchmarks.logit_field import LogitField, spheres_in_lungs
from benchmarks.report import Row, write_report
from benchmarks.segmentation_tasks import (
    Job,
    Seconds,
    Task,
    inference_config,
    mask_path,
    our_network,
    ours_in_all,
    ours_without_network,
    spleen_in_all,
    spleen_on_our_grid,
    spleen_without_network,
    step_seconds,
    windows_on_full_grid,
)
from cohorts import CohortSettings, ScannerSettings, make_cohort
from cohorts.write_nifti import write_nifti
from transforms import load_scan

# Not the spacing of any config, so that all have to resample.
SHAPE, SPACING_MM = (512, 512, 200), (0.74, 0.74, 1.2)
_DIAMETERS_MM = tuple(np.linspace(4, 20, 10).tolist())
_WARM_UP_SHAPE, _WARM_UP_SPACING_MM = (32, 32, 16), (2.0, 2.0, 3.0)
NO_NETWORK, NETWORK, IN_ALL = "all but the network", "network alone", "file to mask"
_NOTES = (
    "Ours is the inference of lung_ct_nodule_segmentation as it is configured, with measurements, "
    "without pictures.",
    f"Peer of '{NO_NETWORK}' and '{IN_ALL}': the inference of the model zoo's "
    "spleen_ct_segmentation, built from MONAI's classes with its settings; it has no measurements. "
    "Its network has random weights, which cost what trained ones do.",
    f"Peer of '{NETWORK}': MONAI's sliding window with our network and weights on the whole scan "
    "on our network's grid, windows of 96 x 96 x 96 voxels, four at a time, at an overlap of 0.5. "
    "Ours finds the lungs, crops to them and runs its tiles. Reading, resampling and the way back "
    "count for neither.",
    f"In '{NO_NETWORK}' both have the same logits, each on its own grid: smooth spheres of 4 to "
    "20 mm in the lungs, known at every place. The time they take to compute does not count.",
    "Peak memory: what the process held beyond its imports, and with them; the highest of its "
    "rounds.",
    "Voxels that differ are those of the whole scan; since nearly all are background for everyone, "
    "1 - Dice tells more. 'On our grid': the peer's way back from the same logits on the grid of "
    "our network.",
)


class Cost(NamedTuple):
    """Wall and CPU seconds, and a process's peak memory, beyond its imports and with them."""

    wall_s: float
    cpu_s: float
    peak_gib: float
    process_gib: float


class Setting(NamedTuple):
    """Attributes:
    scan: file of the CT to measure.
    warm_up: file of a small one that loads what torch and MONAI load late.
    run_dir: weights of our network.
    folder: of the masks.
    field: logits where no network runs.
    """

    scan: Path
    warm_up: Path
    run_dir: Path
    folder: Path
    field: LogitField

    def job(self, task: Task) -> Job:
        return Job(self.scan, self.run_dir, self.folder / task.__name__, self.field)

    def warm_up_job(self) -> Job:
        return Job(self.warm_up, self.run_dir, self.folder / "warm-up", self.field)

    def mask(self, task: Task) -> NDArray[np.bool_]:
        """What a task found on the scan's grid."""
        return read_mask(mask_path(task, self.job(task)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scan_segmentation", description=__doc__
    )
    parser.add_argument("--scan", type=Path, help="a CT as NIfTI; without it a phantom is made")
    parser.add_argument("--run", type=Path, help="a training; without it the weights are random")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {options.rounds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan, truth = (options.scan, None) if options.scan else phantom(folder / "phantom")
        hu = load_scan(scan)
        setting = Setting(
            scan=scan,
            warm_up=noise(folder / "noise.nii.gz"),
            run_dir=options.run or random_weights(folder),
            folder=folder / "masks",
            field=spheres_in_lungs(hu, _DIAMETERS_MM),
        )
        rows = cost_rows(
            NO_NETWORK, ours_without_network, spleen_without_network, setting, options.rounds
        )
        rows += step_rows(setting)
        rows += field_rows(setting, hu.shape[1:], hu.affine.numpy())
        rows += cost_rows(NETWORK, our_network, windows_on_full_grid, setting, options.rounds)
        if options.run:
            rows += dice_rows(setting, truth)
        rows += cost_rows(IN_ALL, ours_in_all, spleen_in_all, setting, options.rounds)
    spacing_mm = hu.affine[:3, :3].norm(dim=0).tolist()
    about = (
        f"{'A CT' if options.scan else 'A phantom'} of {_times(hu.shape[1:])} voxels of "
        f"{_times([round(mm, 3) for mm in spacing_mm])} mm, in {''.join(scan.suffixes)}.",
        f"Our network has {'the weights of a training' if options.run else 'random weights'}.",
        f"Wall seconds, medians of {options.rounds} processes each, in turns; a small scan "
        "beforehand loads what is loaded late. CPU time, that of all threads, holds on a machine "
        "that does other work too.",
    )
    name = "scan_segmentation_trained" if options.run else "scan_segmentation"
    write_report(name, rows, notes=(*about, *_NOTES))


def cost_rows(what: str, ours: Task, peer: Task, setting: Setting, rounds: int) -> list[Row]:
    """Median time and highest memory of both, measured in turns."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for _ in range(rounds):
        for task, done in zip((ours, peer), costs, strict=True):
            done.append(in_fresh_process(cost, task, setting))
            print(f"{what}, {task.__name__}: {done[-1]}", flush=True)
    one, other = (
        Cost(statistics.median(wall_s), statistics.median(cpu_s), max(peak_gib), max(process_gib))
        for wall_s, cpu_s, peak_gib, process_gib in (zip(*done, strict=True) for done in costs)
    )
    return [
        Row(what, one.wall_s, other.wall_s, "s"),
        Row(f"{what}: CPU time", one.cpu_s, other.cpu_s, "s"),
        Row(f"{what}: peak memory beyond imports", one.peak_gib, other.peak_gib, "GiB"),
        Row(f"{what}: peak memory", one.process_gib, other.process_gib, "GiB"),
    ]


def cost(task: Task, setting: Setting) -> Cost:
    """To be called once in a process."""
    task(setting.warm_up_job())
    held_gib = memory_gib(RESIDENT)
    wall_s, cpu_s = task(setting.job(task)).tolist()
    peak_gib = memory_gib(PEAK)
    return Cost(wall_s, cpu_s, peak_gib - held_gib, peak_gib)


def step_rows(setting: Setting) -> list[Row]:
    """Where our time goes without the network."""
    steps = in_fresh_process(warm_step_seconds, setting)
    return [
        Row(f"{NO_NETWORK}: {name}", float(wall_s), None, "s")
        for name, (wall_s, _) in steps.items()
    ]


def warm_step_seconds(setting: Setting) -> dict[str, Seconds]:
    """To be called once in a process."""
    step_seconds(setting.warm_up_job())
    return step_seconds(setting.job(ours_without_network))


def field_rows(setting: Setting, shape: torch.Size, affine: NDArray[np.float64]) -> list[Row]:
    """How far the masks of the same logits differ, and how far they are from those logits' own."""
    in_fresh_process(spleen_on_our_grid, setting.job(spleen_on_our_grid))
    field = setting.field.on_grid(shape, affine).numpy() > 0
    ours, peer, on_our_grid = map(
        setting.mask, (ours_without_network, spleen_without_network, spleen_on_our_grid)
    )
    return [
        Row("same logits: voxels that differ", 100 * _differ(ours, peer), None, "%"),
        Row("same logits: 1 - Dice", 1 - _dice(ours, peer), None, ""),
        Row(
            "same logits on our grid: voxels that differ",
            100 * _differ(ours, on_our_grid),
            None,
            "%",
        ),
        Row("same logits on our grid: 1 - Dice", 1 - _dice(ours, on_our_grid), None, ""),
        Row(
            "same logits: 1 - Dice with the spheres",
            1 - _dice(ours, field),
            1 - _dice(peer, field),
            "",
        ),
    ]


def dice_rows(setting: Setting, truth: Path | None) -> list[Row]:
    """How far the masks of our network by tiles and by sliding windows differ."""
    ours, peer = map(setting.mask, (our_network, windows_on_full_grid))
    rows = [
        Row(f"{NETWORK}: voxels found", int(ours.sum()), int(peer.sum()), ""),
        Row(f"{NETWORK}: 1 - Dice of both", 1 - _dice(ours, peer), None, ""),
    ]
    if truth is not None:
        nodules = read_mask(truth)
        errors = (1 - _dice(ours, nodules), 1 - _dice(peer, nodules))
        rows.append(Row(f"{NETWORK}: 1 - Dice with the phantom's nodules", *errors, ""))
    return rows


def phantom(folder: Path) -> tuple[Path, Path]:
    """Files of a phantom CT and of its nodules."""
    extent_mm = [size * mm for size, mm in zip(SHAPE, SPACING_MM, strict=True)]
    scanner = ScannerSettings(
        spacing_mm=SPACING_MM, field_of_view_mm=(extent_mm[0], extent_mm[1], extent_mm[2])
    )
    settings = CohortSettings(training=0, validation=0, testing=1, scanner=scanner)
    make_cohort(settings, folder)
    (image,), (mask,) = ((folder / name).iterdir() for name in ("images", "masks"))
    return image, mask


def noise(path: Path) -> Path:
    """A small CT of nothing but noise."""
    hu = np.random.default_rng(0).integers(-1000, 200, _WARM_UP_SHAPE[::-1], np.int16)
    write_nifti(hu, np.diag([*_WARM_UP_SPACING_MM, 1.0]), path)
    return path


def random_weights(run_dir: Path) -> Path:
    """A folder with weights that no one has trained, of the default or the folder's network."""
    torch.manual_seed(0)
    config = inference_config(Job(Path(), run_dir, run_dir, LogitField((), ())))
    torch.save(config.get_parsed_content("network").state_dict(), run_dir / "model.pt")
    return run_dir


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Voxels ``(H, W, D)`` that are not background."""
    array = np.load(path) if path.suffix == ".npy" else np.asanyarray(nib.nifti1.load(path).dataobj)
    found: NDArray[np.bool_] = np.squeeze(array) != 0
    return found


def _differ(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one != other).mean())


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Of two masks, 1 where both are empty."""
    voxels = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / voxels if voxels else 1.0


def _times(values: list[float] | torch.Size) -> str:
    return " x ".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    main()
