"""How a metric over a cohort reports an epoch: with its interval, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import ignite.distributed as idist
import numpy as np
import numpy.typing as npt
from ignite.engine import Engine

from metrics.bootstrap_interval import FloatArray, interval_ends


def value_with_interval(
    name: str,
    statistic: Callable[[FloatArray], FloatArray],
    patient_ids: Sequence[str],
    *,
    scan_weights: npt.ArrayLike = 1.0,
) -> dict[str, float]:
    """``name``, ``<name>_low`` and ``<name>_high``: a statistic and its 95 % patient bootstrap.

    Empty where the statistic has no value for the cohort; without the ends where
    :func:`metrics.bootstrap_interval` refuses them.

    Args:
        name: key of the value.
        statistic: of weights ``(resamples, scans)``, as for :func:`metrics.bootstrap_interval`.
        patient_ids: one per scan.
        scan_weights: ``(scans,)`` that multiply those of the statistic, fixed in the bootstrap.
    """
    fixed = np.asarray(scan_weights, dtype=np.float64)

    def weighted(drawn: FloatArray) -> FloatArray:
        return statistic(drawn * fixed)

    value = float(weighted(np.ones((1, len(patient_ids))))[0])
    if np.isnan(value):
        return {}
    return {name: value, **interval_ends(name, weighted, patient_ids)}


def replace_values(engine: Engine, names: Iterable[str], values: Mapping[str, float]) -> None:
    """Write ``values`` to ``engine.state.metrics``, where nothing that an earlier epoch had under
    ``names``, interval included, outlives it."""
    for name in names:
        for end in ("", "_low", "_high"):
            engine.state.metrics.pop(name + end, None)
    engine.state.metrics.update(values)


class WarnOnce:
    """Logs the first warning that it is given, on rank 0, and none after."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._warned = False

    def __call__(self, sentence: str) -> None:
        if not self._warned and idist.get_rank() == 0:
            self._logger.warning(sentence)
        self._warned = True
