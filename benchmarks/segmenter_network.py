"""``python -m benchmarks.segmenter_network``: the default segmenter against nnU-Net's network.

A forward pass and a training step of a patch of 96x96x96, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_conv_unet import plain_conv_unet
from benchmarks.process_cost import (
    OURS,
    PEER,
    cost_notes,
    cost_rows,
    forward_seconds,
    rounds_asked,
    step_seconds,
)
from benchmarks.report import Row, write_report
from benchmarks.trained_network import TrainedNetwork, adamw, training_config

BUNDLE = "lung_ct_nodule_segmentation"
PATCH_SHAPE = (96, 96, 96)
BATCH_SIZE = 2
_NOTES = (
    "Ours is the default network of lung_ct_nodule_segmentation. The peer is PlainConvUNet of "
    "dynamic-network-architectures 0.4.4 with nnU-Net's plan for MSD Task06, lung tumours.",
    f"Both see a batch of {BATCH_SIZE} patches. A training step is forward, loss, backward and "
    "optimiser: ours with the configuration's loss and AdamW, the peer with MONAI's Dice and cross "
    "entropy over softmax and SGD, without nnU-Net's deep supervision. Weights are random and the "
    "image is noise with one nodule in its mask: neither changes the work.",
    "Each has the memory format that is the faster for it on a CPU: ours has the channels of a "
    "voxel side by side, the peer has them apart.",
    "GFLOP counts a multiplication and its addition as two, and only those of convolutions and "
    "matrix products (torch.utils.flop_counter), of one patch.",
)


class Size(NamedTuple):
    """What a network is and what a forward pass of one patch computes."""

    parameters: int
    gflop: float


def main() -> None:
    rounds = rounds_asked("segmenter_network", __doc__, (4, 2), "a step of the peer is slow")
    ours, peer = size(OURS, PATCH_SHAPE), size(PEER, PATCH_SHAPE)
    patch = " x ".join(map(str, PATCH_SHAPE))
    rows = [
        Row(f"network, {patch}", ours.gflop, peer.gflop, "GFLOP"),
        Row("parameters", ours.parameters, peer.parameters, ""),
        *cost_rows(f"forward, {patch}", forward_s, PATCH_SHAPE, rounds),
        *cost_rows(f"training step, {patch}", step_s, PATCH_SHAPE, rounds),
    ]
    write_report("segmenter_network", rows, notes=(*_NOTES, *cost_notes(rounds)))


def forward_s(which: str, shape: Sequence[int]) -> float:
    """Seconds from a batch of patches to their logits."""
    return forward_seconds(_network(which), torch.rand(BATCH_SIZE, 1, *shape))


def step_s(which: str, shape: Sequence[int]) -> float:
    """Seconds of one training step."""
    return step_seconds(trained_network(which, shape), torch.rand(BATCH_SIZE, 1, *shape))


def size(which: str, shape: Sequence[int]) -> Size:
    """Counted by shape alone, without running a weight."""
    network = _network(which).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 1, *shape, device="meta"))
    return Size(
        sum(parameter.numel() for parameter in network.parameters()),
        counter.get_total_flops() / 1e9,
    )


def trained_network(which: str, shape: Sequence[int], *, device: str = "cpu") -> TrainedNetwork:
    """Either network with what a training step of a batch of patches takes."""
    mask = _mask(shape).to(device)
    if which == PEER:
        peer = plain_conv_unet().train().to(device)
        dice_and_cross_entropy = DiceCELoss(softmax=True, to_onehot_y=True, batch=True)
        sgd = torch.optim.SGD(peer.parameters(), lr=1e-2, momentum=0.99, nesterov=True)
        return TrainedNetwork(peer, lambda image: dice_and_cross_entropy(peer(image), mask), sgd)
    config = training_config(BUNDLE, device)
    network, loss = config.get_parsed_content("network"), config.get_parsed_content("loss")
    targets = {
        "mask": mask.int(),
        "mask_affine": torch.eye(4, dtype=torch.float64).repeat(BATCH_SIZE, 1, 1),
        "patient_id": ["random"] * BATCH_SIZE,
    }
    optimizer = adamw(network, config)
    return TrainedNetwork(network.train(), lambda image: loss(network(image), targets), optimizer)


def _network(which: str) -> nn.Module:
    if which == PEER:
        return plain_conv_unet().eval()
    network: nn.Module = training_config(BUNDLE).get_parsed_content("network")
    return network.eval()


def _mask(shape: Sequence[int]) -> torch.Tensor:
    """A nodule of 8 x 8 x 8 voxels in each patch, ``(BATCH_SIZE, 1, *shape)``."""
    mask = torch.zeros(BATCH_SIZE, 1, *shape)
    mask[:, :, 4:12, 4:12, 4:12] = 1
    return mask


if __name__ == "__main__":
    main()
