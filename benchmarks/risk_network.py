"""``python -m benchmarks.risk_network``: the default network against an r3d_18 encoder.

One training step and one inference on a scan of 256x256x200 voxels, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.process_cost import (
    OURS,
    PEER,
    cost_notes,
    cost_rows,
    forward_seconds,
    rounds_asked,
    step_seconds,
)
from benchmarks.r3d_18 import R3d18
from benchmarks.report import Row, write_report
from benchmarks.trained_network import TrainedNetwork, adamw, training_config
from losses import RiskAttentionLoss
from networks import RiskClassifier

BUNDLE = "lung_ct_cancer_risk"
SHAPE = (256, 256, 200)


class Size(NamedTuple):
    """What a network is and what it computes; a step is forward and backward."""

    parameters: int
    encoder_parameters: int
    feature_shape: tuple[int, ...]
    inference_gflop: float
    step_gflop: float


def main() -> None:
    rounds = rounds_asked(
        "risk_network", __doc__, (3, 1), "a step of the peer takes minutes and 12 GiB"
    )
    ours, peer = size(OURS, SHAPE), size(PEER, SHAPE)
    rows = [
        *cost_rows("training step", step_s, SHAPE, rounds),
        *cost_rows("inference", inference_s, SHAPE, rounds),
        Row("parameters", ours.parameters, peer.parameters, ""),
        Row("training step: arithmetic", ours.step_gflop, peer.step_gflop, "GFLOP"),
        Row("inference: arithmetic", ours.inference_gflop, peer.inference_gflop, "GFLOP"),
    ]
    write_report("risk_network", rows, notes=notes(ours, peer, rounds))


def notes(ours: Size, peer: Size, rounds: Sequence[int]) -> list[str]:
    shape, ours_grid, peer_grid = (
        " x ".join(map(str, grid)) for grid in (SHAPE, ours.feature_shape, peer.feature_shape)
    )
    return [
        f"One scan of {shape} voxels (H, W, D), float32. Feature grids: ours {ours_grid}, peer "
        f"{peer_grid}.",
        "Ours is the default network of lung_ct_cancer_risk. The peer is the same pooling and "
        f"classifier on an encoder of r3d_18's published shapes ({peer.encoder_parameters:,} "
        "parameters, three input channels, depth first), built with MONAI's ResNet because "
        "torchvision is no dependency of Locus.",
        "A training step is forward, RiskAttentionLoss with box and side masks on the network's "
        "own grid, backward and AdamW. Both have the configuration's memory format, random "
        "weights, and noise for a scan: none of these changes the work.",
        *cost_notes(rounds),
        "GFLOP counts a multiplication and its addition as two, and only those of convolutions "
        "and matrix products (torch.utils.flop_counter).",
    ]


def step_s(which: str, shape: Sequence[int]) -> float:
    """Seconds of one training step."""
    return step_seconds(trained_network(which, shape), torch.rand(1, 1, *shape))


def trained_network(which: str, shape: Sequence[int], *, device: str = "cpu") -> TrainedNetwork:
    """The network with either encoder, with what a training step of one scan takes."""
    network, config = network_and_config(which, device)
    loss: RiskAttentionLoss = config.get_parsed_content("loss")
    marked = marked_targets(size(which, shape).feature_shape)
    targets = {name: target.to(device) for name, target in marked.items()}
    return TrainedNetwork(
        network,
        lambda image: loss(network(image, with_attention=True), targets),
        adamw(network, config),
    )


def inference_s(which: str, shape: Sequence[int]) -> float:
    """Seconds from a scan to its risk and its attention."""
    network = partial(network_and_config(which)[0].eval(), with_attention=True)
    return forward_seconds(network, torch.rand(1, 1, *shape))


def network_and_config(which: str, device: str = "cpu") -> tuple[RiskClassifier, ConfigParser]:
    """The default network, with the peer's encoder where asked for, in training mode."""
    config = training_config(BUNDLE, device)
    if which == PEER:
        encoder = R3d18()
        # Sets the widths of the pooling and the classifier, which are built for its features.
        config["network_def"]["channels"][-1] = encoder.out_channels
        config.get_parsed_content("network_def").encoder = encoder
    return config.get_parsed_content("network"), config


def marked_targets(features: Sequence[int]) -> dict[str, torch.Tensor]:
    """Targets of one cancer: a lesion of one cell in the middle, a side of half the grid."""
    boxes = torch.zeros(1, 4, *features, dtype=torch.uint8)
    boxes[(0, 0, *(size // 2 for size in features))] = 1
    side = torch.zeros(1, 1, *features, dtype=torch.uint8)
    side[:, :, : (features[0] + 1) // 2] = 1
    risk = torch.ones(1, 1)
    lost = torch.zeros(1, dtype=torch.int64)
    return {
        "risk": risk,
        "risk_known": risk,
        "box_mask": boxes,
        "side_mask": side,
        "lost_boxes": lost,
    }


def size(which: str, shape: Sequence[int]) -> Size:
    """Counted on the ``meta`` device, which computes nothing."""
    network = network_and_config(which)[0].to("meta")
    image = torch.empty(1, 1, *shape, device="meta")
    with FlopCounterMode(display=False) as forward:
        outputs = network(image, with_attention=True)
    with FlopCounterMode(display=False) as backward:
        (outputs["logits"].sum() + outputs["scores"].sum()).backward()
    inference_gflop = forward.get_total_flops() / 1e9
    return Size(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        encoder_parameters=sum(parameter.numel() for parameter in network.encoder.parameters()),
        feature_shape=tuple(outputs["scores"].shape[2:]),
        inference_gflop=inference_gflop,
        step_gflop=inference_gflop + backward.get_total_flops() / 1e9,
    )


if __name__ == "__main__":
    main()
