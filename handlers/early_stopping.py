"""The end of a training that no longer gets better."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from monai.engines import Evaluator

logger = logging.getLogger(__name__)


class EarlyStopping:
    """Ends a training once ``patience`` epochs have passed since the validation's best one.

    The epoch is finished first: its checkpoint is written, and the training completes as one that
    had all its epochs. The best epoch is the one MONAI's evaluator names best, which a checkpoint
    keeps, so a resumed training counts on; with no more patience than before it stops again after
    one epoch.

    MONAI's ``EarlyStopHandler`` cannot stand in a config for this, since it must be given the
    trainer, which is itself made from its handlers, and it forgets its count over a resume.

    Args:
        evaluator: the validation engine, whose key metric names the best epoch.
        patience: epochs without a better one, 1 or more.
    """

    def __init__(self, evaluator: Evaluator, patience: int) -> None:
        if patience < 1:
            raise ValueError(f"patience must be 1 epoch or more, got {patience}")
        self.evaluator = evaluator
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Follow the trainer ``engine``."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        # Registered only now, and so behind the validation, wherever that is listed.
        if not engine.has_event_handler(self._stop_if_stale, Events.EPOCH_COMPLETED):
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop_if_stale)

    def _stop_if_stale(self, engine: Engine) -> None:
        state = self.evaluator.state
        validated = state.best_metric_epoch > 0
        if validated and engine.state.epoch - state.best_metric_epoch >= self.patience:
            logger.info(
                "early stop after epoch %d: %s was best in epoch %d (%.4g), patience is %d epochs",
                engine.state.epoch,
                state.key_metric_name,
                state.best_metric_epoch,
                state.best_metric,
                self.patience,
            )
            engine.terminate()
