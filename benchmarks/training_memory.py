"""``python -m benchmarks.training_memory``: memory of a training step against the scan's size.

The default network of lung_ct_cancer_risk, plain and with the overlay low_memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from benchmarks.process_cost import OURS, PEER, cost_rows, step_seconds
from benchmarks.report import Row, write_report
from benchmarks.risk_network import BUNDLE, marked_targets, size
from benchmarks.trained_network import TrainedNetwork, adamw, training_config

SHAPES = ((128, 128, 64), (256, 256, 100), (384, 384, 152), (512, 512, 200))
OVERLAYS = {OURS: ["low_memory"], PEER: []}


def main() -> None:
    options = _parser().parse_args()
    rows: list[Row] = []
    for shape in SHAPES[: options.sizes]:
        what = f"training step, {_times(shape)}"
        rows += cost_rows(what, step_s, shape, (options.rounds, options.rounds))
    write_report("training_memory", rows, notes=notes(options.rounds))


def notes(rounds: int) -> list[str]:
    return [
        "Ours is the default network of lung_ct_cancer_risk with the overlay low_memory (gradient "
        "checkpointing, a batch of one scan), peer the same network without. Both take the same "
        "step.",
        "A training step is forward, RiskAttentionLoss with box and side masks, backward and "
        "AdamW, of one scan of noise in float32 at the size given, not cropped.",
        f"Wall seconds of the first step of a process, medians of {rounds}, in turns; a step on a "
        "small scan beforehand loads what torch loads late.",
        "Peak memory is the resident memory of the process beyond its imports: weights, "
        "optimiser, scan, activations. The highest of its rounds.",
    ]


def step_s(which: str, shape: Sequence[int]) -> float:
    """Seconds of one training step."""
    return step_seconds(trained_network(which, shape), torch.rand(1, 1, *shape))


def trained_network(which: str, shape: Sequence[int]) -> TrainedNetwork:
    """The bundle's network with or without the overlay, with what a step of one scan takes."""
    config = training_config(BUNDLE, overlays=OVERLAYS[which])
    network = config.get_parsed_content("network")
    loss = config.get_parsed_content("loss")
    targets = marked_targets(size(OURS, shape).feature_shape)
    return TrainedNetwork(
        network,
        lambda image: loss(network(image, with_attention=True), targets),
        adamw(network, config),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_memory", description=__doc__
    )
    sizes = f"the first of {', '.join(map(_times, SHAPES))}; the last takes about 6 GiB"
    parser.add_argument(
        "--sizes", type=int, choices=range(1, len(SHAPES) + 1), default=len(SHAPES), help=sizes
    )
    parser.add_argument(
        "--rounds", type=int, choices=range(1, 100), default=3, help="processes each", metavar="N"
    )
    return parser


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    main()
