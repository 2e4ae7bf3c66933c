"""Weights from a checkpoint, or one sentence on why they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.nn import Module


def load_trained_weights(path: str, network: Module) -> dict[str, Any]:
    """Load ``path`` into ``network`` and return the whole checkpoint.

    Args:
        path: a ``model.pt`` (weights alone) or ``last.pt`` (weights under ``network``).
        network: takes the weights; every tensor must be there with its shape.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or one of another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"a checkpoint must be an existing file, got {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        weights = checkpoint.get("network", checkpoint)
        names = set(weights)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"a checkpoint must be readable weights, got {path} ({reason})") from error
    network = getattr(network, "module", network)
    expected = network.state_dict()
    unlike = sorted(names ^ set(expected)) + [
        f"{name} of shape {tuple(weights[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected
        if name in names and weights[name].shape != expected[name].shape
    ]
    if unlike:
        raise ValueError(
            f"a checkpoint must be of the network in the config, got {path}, in which "
            f"{len(unlike)} of {len(expected)} tensors differ, the first {unlike[0]}"
        )
    network.load_state_dict(weights)
    return checkpoint


class TrainedWeights:
    """Ignite handler that loads weights before an evaluator's first batch.

    Args:
        path: as for `load_trained_weights`.
        network: as for `load_trained_weights`.
    """

    def __init__(self, path: str, network: Module) -> None:
        self.path = path
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Engine) -> None:
        load_trained_weights(self.path, self.network)
