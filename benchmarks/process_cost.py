"""Time and memory of ours and of the peer, each time in a process of its own."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from benchmarks.fresh_process import PEAK, RESIDENT, in_fresh_process, memory_gib
from benchmarks.report import Row
from benchmarks.trained_network import TrainedNetwork

OURS, PEER = "ours", "peer"
_WARM_UP_SHAPE = (32, 32, 16)

#: Which of the two and the shape of the image, to wall seconds.
Measurement = Callable[[str, Sequence[int]], float]


class Cost(NamedTuple):
    """Wall seconds, and the memory that the process held at most beyond its imports."""

    wall_s: float
    peak_gib: float


def rounds_asked(
    name: str, description: str | None, default: Sequence[int], remark: str
) -> Sequence[int]:
    """``--rounds OURS PEER`` of the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument(
        "--rounds",
        type=int,
        nargs=2,
        default=tuple(default),
        metavar=("OURS", "PEER"),
        help=f"how often each is measured; {remark}",
    )
    rounds: Sequence[int] = parser.parse_args().rounds
    if min(rounds) < 1:
        parser.error(f"--rounds must be 1 or more, got {rounds[0]} and {rounds[1]}")
    return rounds


def cost_rows(
    what: str, measurement: Measurement, shape: Sequence[int], rounds: Sequence[int]
) -> list[Row]:
    """Median time and highest memory of both, measured in turns."""
    costs: dict[str, list[Cost]] = {OURS: [], PEER: []}
    for number in range(max(rounds)):
        for (which, done), wanted in zip(costs.items(), rounds, strict=True):
            if number < wanted:
                done.append(in_fresh_process(cost, measurement, which, shape))
                print(f"{what}, {which}: {done[-1]}", flush=True)
    ours, peer = (
        Cost(statistics.median(one.wall_s for one in done), max(one.peak_gib for one in done))
        for done in costs.values()
    )
    return [
        Row(what, ours.wall_s, peer.wall_s, "s"),
        Row(f"{what}: peak memory", ours.peak_gib, peer.peak_gib, "GiB"),
    ]


def cost(measurement: Measurement, which: str, shape: Sequence[int]) -> Cost:
    """Time and memory of a measurement; to be called once in a process."""
    measurement(OURS, _WARM_UP_SHAPE)
    held_gib = memory_gib(RESIDENT)
    wall_s = measurement(which, shape)
    return Cost(wall_s, memory_gib(PEAK) - held_gib)


def cost_notes(rounds: Sequence[int]) -> tuple[str, str]:
    """What the figures of `cost_rows` are, for a report."""
    return (
        "Peak memory is what the process held beyond its imports: weights, optimiser, image, "
        "activations. The highest of its rounds.",
        f"Wall seconds of the first pass or step of a process, medians of {rounds[0]} processes "
        f"for ours and {rounds[1]} for the peer, in turns; one on a small image beforehand loads "
        "what torch loads late.",
    )


def forward_seconds(network: Callable[[torch.Tensor], object], image: torch.Tensor) -> float:
    """Wall seconds of one pass without gradients."""
    start = time.perf_counter()
    with torch.inference_mode():
        network(image)
    return time.perf_counter() - start


def step_seconds(trained: TrainedNetwork, image: torch.Tensor) -> float:
    """Wall seconds of one training step: forward, loss, backward, optimiser."""
    start = time.perf_counter()
    trained.loss(image).backward()
    trained.optimizer.step()
    return time.perf_counter() - start
