"""Gradients of a bounded length."""

from __future__ import annotations

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch.nn import Module
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer


class GradientClipping:
    """Scales the gradients of every step down to a global norm, between backward and step.

    Under AMP the gradients are unscaled first, so ``max_norm`` means the same with and without;
    a step whose gradients are not finite is then skipped by the scaler itself, which lowers its
    scale. Without AMP no later step would mend such weights, so the training stops before it.

    Args:
        network: the network being trained.
        optimizer: its optimizer.
        max_norm: the largest L2 norm of all gradients together, above 0.

    Raises:
        ValueError: when training starts, for a trainer that accumulates gradients over steps; in
            training, for a norm that is not finite and that no scaler skips.
    """

    def __init__(self, network: Module, optimizer: Optimizer, max_norm: float) -> None:
        # Written so that a NaN fails too.
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {max_norm}")
        self.network = network
        self.optimizer = optimizer
        self.max_norm = max_norm

    def attach(self, engine: SupervisedTrainer) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _check(self, engine: SupervisedTrainer) -> None:
        if engine.accumulation_steps > 1:
            raise ValueError(
                "accumulation_steps must be 1 where gradients are clipped, "
                f"got {engine.accumulation_steps}"
            )

    def _clip(self, engine: SupervisedTrainer) -> None:
        scaler: torch.amp.GradScaler | None = engine.scaler
        skips = scaler is not None and scaler.is_enabled()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.network.parameters(), self.max_norm)
        if not skips and not bool(norm.isfinite()):
            raise ValueError(
                f"the norm of the gradients must be finite, got {norm.item()} "
                f"in iteration {engine.state.iteration}"
            )
