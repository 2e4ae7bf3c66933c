"""A network with all that a training step of it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from monai.bundle import ConfigParser
from torch import nn

from bundles.bundle_config import config_files, merged_config

#: An image to the loss of the network that is trained on it.
ImageLoss = Callable[[torch.Tensor], torch.Tensor]


class TrainedNetwork(NamedTuple):
    """Attributes:
    network: in training mode, on its device.
    loss: of an image on the same device, against targets of its own.
    optimizer: of its parameters.
    """

    network: nn.Module
    loss: ImageLoss
    optimizer: torch.optim.Optimizer


def training_config(bundle: str, device: str = "cpu", overlays: Sequence[str] = ()) -> ConfigParser:
    """The training of a bundle, by default without overlays, on a device."""
    config = ConfigParser(merged_config(config_files(bundle, "train", overlays)))
    config["device"] = f"$torch.device('{device}')"
    return config


def adamw(network: nn.Module, config: ConfigParser) -> torch.optim.AdamW:
    """As a bundle's training has it."""
    return torch.optim.AdamW(
        network.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"]
    )
