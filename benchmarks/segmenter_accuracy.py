"""``python -m benchmarks.segmenter_accuracy``: our segmenter's Dice against nnU-Net's network.

Trains both with the bundle's own commands on the same patches of the demo's phantoms, with the same
loss, optimiser, learning rate and number of steps, and evaluates both on the same testing scans.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, provenance
from bundles.comparison_measures import measured
from bundles.comparison_plan import ComparisonPlan, comparison_plan
from bundles.comparison_record import comparison_record
from bundles.comparison_runs import ComparisonRun
from bundles.comparison_table import terminal_lines
from bundles.demo import COHORT
from bundles.run_folders import runs_folder
from bundles.train_runs import train_runs
from cohorts import make_cohort
from cohorts.datalist import SPLITS, load_datalist
from handlers.write_json import write_json

NAME = "segmenter_accuracy"
BUNDLE = "lung_ct_nodule_segmentation"
OURS, PEER = "ours", "peer"
_FOLDER = Path(__file__).parent
ARMS = {
    OURS: ("demo", str(_FOLDER / f"{NAME}.yaml")),
    PEER: ("demo", str(_FOLDER / f"{NAME}.yaml"), str(_FOLDER / "plain_conv_unet.yaml")),
}
EPOCHS = 8
NOTES = (
    "Ours is lung_ct_nodule_segmentation with its overlay for the demo's phantoms. The peer is "
    "PlainConvUNet of dynamic-network-architectures 0.4.4 with nnU-Net's plan for MSD Task06, lung "
    "tumours, without its coarsest level: patches of 48 voxels halve four times. Its weights begin "
    "as nnU-Net's do; the difference of its two logits is the logit of a nodule.",
    "Both see the same patches in the same order, with the bundle's Dice and cross entropy, AdamW "
    "and one learning rate, risen and fallen over the same steps. That is not nnU-Net's training: "
    "no SGD, no deep supervision, not its augmentation, not its thousand epochs. It says what the "
    "two networks learn in equal steps, not what nnU-Net reaches.",
    "No epoch is chosen by validation: the last weights count.",
    "Both are applied in the same tiles. The peer's instance norms take their statistics from a "
    "tile, which is larger than a patch; nnU-Net itself applies windows of the patch's size.",
    "Training minutes are of the whole command, with the reading of the scans and a validation on "
    "four of them. Seconds a step are wall time with the patches' augmentation, the median of the "
    "last epoch.",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    folder = runs_folder()
    add("--datalist", type=Path, default=None, help="other phantoms, of voxels of some 3 mm")
    add("--epochs", type=int, default=EPOCHS, help="of each training")
    add("--seeds", type=int, default=1, help="trainings of each network")
    add("--output", type=Path, default=folder / BUNDLE / NAME, help="folder of the trainings")
    add("--resume", action="store_true", help="go on with what the output folder has")
    options = parser.parse_args()
    for name in ("epochs", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more, got {getattr(options, name)}")
    datalist = options.datalist or make_cohort(
        COHORT, folder.parent / "data" / "phantom-demo", workers=2
    )
    runs = network_runs(datalist, options.output, epochs=options.epochs, seeds=options.seeds)
    begun = [run.folder for run in runs if run.folder.exists()]
    if begun and not options.resume:
        parser.error(f"--output must be new without --resume, got {begun[0]}")
    failed = train_runs(runs, jobs=1)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(runs)} trainings failed: {', '.join(failed)}")
    record = accuracy_record(runs)
    write_json(options.output / f"{NAME}.json", record)
    if options.datalist is None and options.epochs >= EPOCHS:
        write_json(RESULTS / f"{NAME}.json", record)
    print_record(record)


def network_runs(
    datalist: Path,
    output: Path,
    *,
    epochs: int,
    seeds: int,
    overlays: Sequence[str | Path] = (),
) -> list[ComparisonRun]:
    """The training and evaluation of each network with each seed.

    Args:
        datalist: the datalist JSON, with all three splits.
        output: folder of the runs' own.
        epochs: of each training; what it validates comes after the last.
        seeds: the seeds 0 to ``seeds - 1``.
        overlays: of both, after their own.
    """
    for split in SPLITS:
        load_datalist(datalist, split)
    digest = hashlib.sha256(datalist.read_bytes()).hexdigest()
    return [
        ComparisonRun(
            bundle=BUNDLE,
            arm=arm,
            seed=seed,
            overlays=[*own, *map(str, overlays)],
            settings={"max_epochs": epochs, "val_interval": epochs},
            datalist=datalist.resolve(),
            datalist_sha256=digest,
            folder=output.resolve() / f"{arm}-seed{seed}",
        )
        for seed in range(seeds)
        for arm, own in ARMS.items()
    ]


def accuracy_record(runs: Sequence[ComparisonRun]) -> dict[str, Any]:
    """What the networks reach on the testing scans, ours less the peer's, and what they cost.

    Args:
        runs: evaluated.
    """
    measures = comparison_plan(BUNDLE).measures
    plan = ComparisonPlan(arms=ARMS, reference=PEER, measures=measures, notes=NOTES)
    files: dict[str, list[Path]] = {arm: [] for arm in ARMS}
    for run in runs:
        files[run.arm].append(run.per_scan)
    config = runs[0].config()
    origin = provenance(NAME)
    record = comparison_record(plan, runs, {}, command=origin["command"])
    for arm in record["arms"].values():
        arm["overlays"] = [Path(overlay).stem for overlay in arm["overlays"]]  # no place
    return {
        **record,
        **origin,
        "settings": {
            name: config[name]
            for name in (
                "spacing_mm", "patch_shape", "batch_size", "patches_per_scan", "learning_rate",
                "max_epochs", "tile_shape", "tile_margin",
            )
        },
        "training": [_training(run) for run in runs],
        "measures": measured(plan, files),
    }  # fmt: skip


def _training(run: ComparisonRun) -> dict[str, Any]:
    weights = torch.load(run.folder / "last.pt", weights_only=True, map_location="cpu")
    clock = json.loads((run.folder / "training.json").read_text(encoding="utf-8"))
    return {
        "arm": run.arm,
        "seed": run.seed,
        "steps": weights["trainer"]["iteration"],
        "minutes": round(run.record["training_seconds"] / 60, 2),
        "median_step_s": clock["median_step_s"],
    }


def print_record(record: Mapping[str, Any]) -> None:
    print("\n".join([*terminal_lines(record), ""]))
    for training in record["training"]:
        print(
            f"{training['arm']}, seed {training['seed']}: {training['steps']} steps of "
            f"{record['settings']['batch_size']} patches in {training['minutes']:.1f} minutes, "
            f"{training['median_step_s']:.2f} s a step"
        )


if __name__ == "__main__":
    main()
