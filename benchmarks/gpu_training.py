"""``python -m benchmarks.gpu_training``: the default networks and their peers on an NVIDIA GPU.

A training step in float32, under automatic mixed precision (AMP), and compiled; an inference; the
memory of each; and how often a step of ours makes the host wait for the GPU.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from benchmarks import detector_network, risk_network, segmenter_network
from benchmarks.process_cost import OURS, PEER
from benchmarks.report import Row, write_report
from benchmarks.trained_network import TrainedNetwork

NAME = "gpu_training"
MODES = ("float32", "AMP", "AMP, compiled")
_NOTES = (
    "Medians of milliseconds between two CUDA events, after three runs to warm up; peak memory is "
    "what torch's allocator held at most. AMP is torch.autocast with bfloat16, without a "
    "gradient scaler; an inference has it too. Weights are random and images are noise.",
    "The peers are those of benchmarks.risk_network, detector_network and segmenter_network: the "
    "encoder r3d_18 under our pooling, MONAI's RetinaNet with its matching, and nnU-Net's plan for "
    "MSD Task06, each on the same images as ours.",
    "Host syncs are what torch.cuda.set_sync_debug_mode counts in a step of ours in float32: "
    "forward, loss with its check for values that are not finite, backward and optimiser.",
)


class Case(NamedTuple):
    """Attributes:
    bundle: whose default network is ours.
    trained: which network, the image's shape and the device, to what a step takes.
    batch_size: images in a batch.
    shape: of an image.
    """

    bundle: str
    trained: Callable[..., TrainedNetwork]
    batch_size: int
    shape: tuple[int, int, int]


CASES = (
    Case(risk_network.BUNDLE, risk_network.trained_network, 1, risk_network.SHAPE),
    Case(detector_network.BUNDLE, detector_network.trained_network, 1, (192, 192, 80)),
    Case(
        segmenter_network.BUNDLE,
        segmenter_network.trained_network,
        segmenter_network.BATCH_SIZE,
        segmenter_network.PATCH_SHAPE,
    ),
)


class GpuCost(NamedTuple):
    """Milliseconds, and the memory that torch held at most."""

    wall_ms: float
    peak_gib: float


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each is measured")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {rounds}")
    if not torch.cuda.is_available():
        parser.error("an NVIDIA GPU must be visible to torch, got none")
    rows = [row for case in CASES for row in case_rows(case, rounds)]
    about = f"On one {torch.cuda.get_device_name()}, medians of {rounds}."
    write_report(NAME, rows, notes=(about, *_NOTES))


def case_rows(case: Case, rounds: int) -> list[Row]:
    """Steps in every mode, the inference, and the syncs of a bundle."""
    size = f"{case.batch_size} x " + " x ".join(map(str, case.shape))
    rows = []
    for mode in MODES:
        what = f"{case.bundle}: training step, {mode}, {size}"
        rows += _rows(what, rounds, partial(training_step, case, mode))
    rows += _rows(f"{case.bundle}: inference, AMP, {size}", rounds, partial(inference, case))
    syncs = host_syncs(training_step(case, MODES[0], OURS))
    return [*rows, Row(f"{case.bundle}: host syncs of a training step", syncs, None, "")]


def training_step(case: Case, mode: str, which: str, device: str = "cuda") -> Callable[[], None]:
    """One training step on a batch of noise, ready to run.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode}")
    trained = case.trained(which, case.shape, device=device)
    if mode == MODES[2]:
        trained.network.compile()
    image = torch.rand(case.batch_size, 1, *case.shape, device=device)

    def step() -> None:
        trained.optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mode != MODES[0]):
            loss = trained.loss(image)
        loss.backward()
        trained.optimizer.step()

    return step


def inference(case: Case, which: str, device: str = "cuda") -> Callable[[], None]:
    """One forward pass without gradients on a batch of noise, ready to run."""
    network = case.trained(which, case.shape, device=device).network.eval()
    image = torch.rand(case.batch_size, 1, *case.shape, device=device)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16):
            network(image)

    return forward


def host_syncs(step: Callable[[], None]) -> int:
    """How often a second step makes the host wait for the GPU; the first may load what is late."""
    step()
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _rows(what: str, rounds: int, ready: Callable[[str], Callable[[], None]]) -> list[Row]:
    costs = {which: measured(ready(which), rounds) for which in (OURS, PEER)}
    ours, peer = costs[OURS], costs[PEER]
    print(f"{what}: {ours} against {peer}", flush=True)
    return [
        Row(what, ours.wall_ms, peer.wall_ms, "ms"),
        Row(f"{what}: peak memory", ours.peak_gib, peer.peak_gib, "GiB"),
    ]


def measured(run: Callable[[], None], rounds: int) -> GpuCost:
    """Median time and highest memory, after three runs to warm up."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return GpuCost(statistics.median(times), torch.cuda.max_memory_allocated() / 2**30)


if __name__ == "__main__":
    main()
