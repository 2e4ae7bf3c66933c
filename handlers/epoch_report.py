"""What an epoch brought, in one line of the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from handlers.finite_scalars import finite_scalars

logger = logging.getLogger(__name__)


class EpochReport:
    """One line of the log for each epoch of a training: its metrics and those of the validation.

    MONAI's ``StatsHandler`` writes four lines and leaves intervals as metrics of their own.
    List it behind ``ValidationHandler``.

    Args:
        evaluator: the validation engine.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _report(self, engine: Engine) -> None:
        logger.info(
            "epoch %d of %d: training %s; validation %s",
            engine.state.epoch,
            engine.state.max_epochs,
            metrics_line(engine.state.metrics),
            metrics_line(self.evaluator.state.metrics),
        )


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """Metrics in words, ``<name>_low`` and ``<name>_high`` as the interval of ``<name>``."""
    values = finite_scalars(metrics)
    ends = {f"{name}_{end}" for name in values for end in ("low", "high")}
    parts = []
    for name in [name for name in values if name not in ends]:
        value, low, high = (values.get(name + end) for end in ("", "_low", "_high"))
        text = "none" if value is None else f"{value:.4g}"
        interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
        parts.append(f"{name} {text}{interval}")
    return ", ".join(parts) or "none"
