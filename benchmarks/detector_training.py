"""Our detector and its peer, each trained on the same patches for a given time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from benchmarks.retina_detector import retina_detector
from benchmarks.training_clock import StepTimer, TrainingTime
from bundles.bundle_config import bundle_configs, config_files, merged_config
from bundles.run_bundle import run_bundle

BUNDLE = "lung_ct_nodule_detection"
OVERLAY = Path(__file__).with_name("detector_accuracy.yaml")
# A step of the peer takes seconds, and so few fit into the time that more of them are worth more
# than more patches in each.
PEER_BATCH_SIZE = 1
_CALIBRATION_STEPS = 60


class Setup(NamedTuple):
    """What both are trained on.

    Attributes:
        datalist: the cohort.
        overlays: of the bundle's train.yaml, before the benchmark's own.
    """

    datalist: Path
    overlays: tuple[str, ...]

    def overrides(self, run_dir: Path) -> dict[str, Any]:
        root = str(bundle_configs(BUNDLE).parent)
        return {"bundle_root": root, "run_dir": str(run_dir), "data_list": str(self.datalist)}

    def config(self, run_dir: Path, settings: Mapping[str, Any]) -> ConfigParser:
        """The bundle's training, of which parts can be taken."""
        files = config_files(BUNDLE, "train", [*self.overlays, OVERLAY])
        return ConfigParser(merged_config(files, {**self.overrides(run_dir), **settings}))


def fill_cache(setup: Setup) -> None:
    """Preprocess every scan, so that no training waits for it."""
    for split in ("training", "validation", "testing"):
        part = "train" if split == "training" else "validate"
        config = setup.config(Path(), {"patches_per_scan": 1, "validate::scans::split": split})
        dataset = config.get_parsed_content(f"{part}::dataset")

        def cache(index: int, dataset: Dataset = dataset) -> None:
            dataset[index]  # of which nothing is kept but the file

        with ThreadPool(2) as pool:
            pool.map(cache, range(len(dataset)))


def train_ours(setup: Setup, run_dir: Path, seconds: float) -> TrainingTime:
    """The bundle's own training, with as many patches as a first short one says fit into the time.

    Its learning rate ends with the last of them. Writes ``model.pt`` into ``run_dir``.
    """
    config = setup.config(run_dir, {})
    scans = len(config.get_parsed_content("train::scans"))
    steps_per_patch = scans / config["batch_size"]

    def trained(folder: Path, steps: float) -> TrainingTime:
        patches = max(1, round(steps / steps_per_patch))
        overrides = {**setup.overrides(folder), "patches_per_scan": patches}
        run_bundle(BUNDLE, "train", overlays=[*setup.overlays, OVERLAY], overrides=overrides)
        return TrainingTime(**json.loads((folder / "training.json").read_text()))

    first = trained(run_dir / "calibration", _CALIBRATION_STEPS)
    return trained(run_dir, seconds / first.median_step_s)


def train_peer(setup: Setup, run_dir: Path, seconds: float) -> TrainingTime:
    """MONAI's detector with the optimiser of its bundle, until the time is over.

    The learning rate rises and falls at the published shares of the training, told by the clock.
    Writes ``model.pt`` into ``run_dir``.
    """
    config = setup.config(run_dir, {"patches_per_scan": 1, "batch_size": PEER_BATCH_SIZE})
    set_determinism(config["seed"])
    batches = _endless(config.get_parsed_content("train::dataloader"))
    detector = retina_detector(config["spacing_mm"], config["tile_shape"])
    optimizer = torch.optim.SGD(
        detector.network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=3e-5
    )
    detector.train()
    timer = StepTimer()
    while timer.elapsed_s < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * published_rate(timer.elapsed_s / seconds)
        batch = next(batches)
        image = batch["image"].as_tensor()
        losses = detector(image, peer_targets(batch, image.shape[2:]))
        optimizer.zero_grad()
        (losses[detector.cls_key] + losses[detector.box_reg_key]).backward()
        optimizer.step()
        timer.step()
    run_dir.mkdir(parents=True, exist_ok=True)
    torch.save(detector.network.state_dict(), run_dir / "model.pt")
    return timer.total()


def published_rate(share: float) -> float:
    """Factor of the learning rate after a share of the training, 0 to 1.

    In the model zoo it rises over 10 of 300 epochs and falls to a tenth after 150. It begins here
    at a tenth and not at 0, which would waste a step where there are few.
    """
    warmup = min(1.0, max(0.1, share * 30))
    return warmup if share < 0.5 else 0.1


def peer_targets(
    batch: Mapping[str, torch.Tensor], shape: Sequence[int]
) -> list[dict[str, torch.Tensor]]:
    """Each sample's boxes as MONAI's detector takes them: cut to the image, of class 0."""
    ends = torch.tensor([*shape, *shape], dtype=torch.float32)
    tables = [
        table[:count].clamp(min=torch.zeros(6), max=ends)
        for table, count in zip(batch["boxes_voxel"], batch["box_count"].tolist(), strict=True)
    ]
    return [
        {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)} for boxes in tables
    ]


def _endless(loader: DataLoader) -> Iterator[dict[str, Any]]:
    return itertools.chain.from_iterable(itertools.repeat(loader))
