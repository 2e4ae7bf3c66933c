"""``python -m benchmarks.detector_network``: the default detector against MONAI's RetinaNet.

A forward pass of 256x256x96 voxels and a training step of 96x96x48, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import nn
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
from benchmarks.report import Row, write_report
from benchmarks.retina_detector import retina_detector
from benchmarks.retina_net import retina_net
from benchmarks.trained_network import TrainedNetwork, adamw, training_config

BUNDLE = "lung_ct_nodule_detection"
FORWARD_SHAPE, STEP_SHAPE = (256, 256, 96), (96, 96, 48)
# What is counted grows with the voxels where the strides divide the shape.
_COUNTED_SHAPE = (32, 32, 16)
_NODULES = 2
_NOTES = (
    "Ours is the default network of lung_ct_nodule_detection. The peer is MONAI's RetinaNet with "
    "the published shapes of its lung nodule detector, built without torchvision, which MONAI's "
    "own way to it imports and which does not import beside a CPU build of torch.",
    "A training step is forward, loss, backward and optimiser on one patch with "
    f"{_NODULES} nodules: ours with the configuration's loss and AdamW, the peer with MONAI's ATSS "
    "matcher, hard negatives, losses and SGD. Weights are random and the image is noise: neither "
    "changes the work.",
    "Each has the memory format that is the faster for it on a CPU: ours has the channels of a "
    "voxel side by side, the peer has them apart.",
    "GFLOP counts a multiplication and its addition as two, and only those of convolutions and "
    "matrix products (torch.utils.flop_counter); Mvoxel is a million voxels of the image.",
)


class Size(NamedTuple):
    """What a network is and what a forward pass computes."""

    parameters: int
    gflop_per_mvoxel: float


def main() -> None:
    rounds = rounds_asked("detector_network", __doc__, (4, 2), "a forward pass of the peer is slow")
    ours, peer = size(OURS), size(PEER)
    rows = [
        Row("network", ours.gflop_per_mvoxel, peer.gflop_per_mvoxel, "GFLOP per Mvoxel"),
        Row("parameters", ours.parameters, peer.parameters, ""),
        *cost_rows(f"forward, {_text(FORWARD_SHAPE)}", forward_s, FORWARD_SHAPE, rounds),
        *cost_rows(f"training step, {_text(STEP_SHAPE)}", step_s, STEP_SHAPE, rounds),
    ]
    write_report("detector_network", rows, notes=(*_NOTES, *cost_notes(rounds)))


def forward_s(which: str, shape: Sequence[int]) -> float:
    """Seconds from an image to the raw maps."""
    return forward_seconds(_network(which), torch.rand(1, 1, *shape))


def step_s(which: str, shape: Sequence[int]) -> float:
    """Seconds of one training step."""
    return step_seconds(trained_network(which, shape), torch.rand(1, 1, *shape))


def size(which: str) -> Size:
    network = _network(which)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 1, *_COUNTED_SHAPE))
    voxels = torch.Size(_COUNTED_SHAPE).numel()
    return Size(
        sum(parameter.numel() for parameter in network.parameters()),
        counter.get_total_flops() / 1e3 / voxels,
    )


def trained_network(which: str, shape: Sequence[int], *, device: str = "cpu") -> TrainedNetwork:
    """Either network with what a training step of one patch takes."""
    config, boxes = training_config(BUNDLE, device), _nodules(shape).to(device)
    if which == PEER:
        return _peer(retina_detector(config["spacing_mm"], shape).to(device), boxes)
    network, loss = config.get_parsed_content("network"), config.get_parsed_content("loss")
    targets = {
        "boxes_voxel": boxes[None],
        "box_count": torch.tensor([_NODULES], device=device),
        "patient_id": ["random"],
    }
    optimizer = adamw(network, config)
    return TrainedNetwork(network.train(), lambda image: loss(network(image), targets), optimizer)


def _peer(detector: RetinaNetDetector, boxes: torch.Tensor) -> TrainedNetwork:
    labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    targets = [{"boxes": boxes, "labels": labels}]

    def loss(image: torch.Tensor) -> torch.Tensor:
        losses: dict[str, torch.Tensor] = detector(image, targets)
        return losses["classification"] + losses["box_regression"]

    weights = detector.network.parameters()
    sgd = torch.optim.SGD(weights, lr=1e-2, momentum=0.9, nesterov=True)
    return TrainedNetwork(detector.train().network, loss, sgd)


def _network(which: str) -> nn.Module:
    if which == PEER:
        return retina_net().eval()
    network: nn.Module = training_config(BUNDLE).get_parsed_content("network")
    return network.eval()


def _nodules(shape: Sequence[int]) -> torch.Tensor:
    """Corners ``(_NODULES, 6)`` of nodules of 8 x 8 x 5 voxels along the image's diagonal."""
    centre = torch.linspace(0.3, 0.7, _NODULES)[:, None] * torch.tensor(shape)
    half = torch.tensor([4.0, 4.0, 2.5])
    return torch.cat([centre - half, centre + half], dim=1)


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


if __name__ == "__main__":
    main()
