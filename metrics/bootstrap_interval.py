"""How far a statistic of a cohort can be trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

# Of 1,000 intervals of a normal mean, 83 % held the truth with 5 patients, 91 % with 10.
MIN_PATIENTS = 10
MIN_DEFINED_FRACTION = 0.9
_BLOCK_ELEMENTS = 1_000_000  # counts held at once: bounds memory, and stays near the cache


class BootstrapInterval(NamedTuple):
    """Ends of a 95 % interval, and how many resamples had no value and were left out."""

    low: float
    high: float
    skipped: int


class TooFewPatientsError(ValueError):
    """The cohort is too small, or one class of it too rare, for an interval to mean anything."""


def bootstrap_interval(
    statistic: Callable[[FloatArray], FloatArray],
    patient_ids: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> BootstrapInterval:
    """95 % percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13) over patients.

    Patients are drawn with replacement, each with all their scans. The draws depend on the seed
    and the set of patients, not on the order of the scans. A statistic that is itself a
    difference of two models' values gives the paired interval of that difference. Where no patient
    disagrees (an AUROC or a hit rate of 1) resampling sees no doubt, and the interval no width.

    Args:
        statistic: maps weights ``(resamples, scans)``, how often each scan was drawn, to one value
            per resample, NaN where the resample has none (one class only).
        patient_ids: one per scan.
        resamples: number of resamples, 1 or more.
        seed: of the draws.

    Raises:
        TooFewPatientsError: fewer than 10 patients, or more than 10 % of the resamples without a
            value (for the AUROC: about two patients or fewer in one of the classes).
    """
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    patients, patient_of_scan = np.unique(np.asarray(patient_ids), return_inverse=True)
    count = len(patients)
    if count < MIN_PATIENTS:
        raise TooFewPatientsError(
            f"an interval needs at least {MIN_PATIENTS} patients, got {count}"
        )
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_ELEMENTS // len(patient_ids))
    values = []
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(count, size=(rows, count), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        values.append(statistic(times[:, patient_of_scan].astype(np.float64)))
    return _percentile_interval(np.concatenate(values))


def interval_ends(
    name: str, statistic: Callable[[FloatArray], FloatArray], patient_ids: Sequence[str]
) -> dict[str, float]:
    """``{"<name>_low": ..., "<name>_high": ...}`` for a metrics mapping; empty, and said so in the
    log, where :func:`bootstrap_interval` refuses the cohort."""
    try:
        interval = bootstrap_interval(statistic, patient_ids)
    except TooFewPatientsError as error:
        logger.info("%s is given without an interval: %s", name, error)
        return {}
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


def weighted_mean(values: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Mean of ``values`` ``(scans,)`` under each row of ``weights`` ``(resamples, scans)``."""
    return weights @ np.asarray(values, dtype=np.float64) / weights.sum(axis=1)


def weighted_ratio(values: npt.ArrayLike, others: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """The mean of ``values`` over that of ``others``, as `weighted_mean` takes them."""
    return weighted_mean(values, weights) / weighted_mean(others, weights)


def _percentile_interval(values: FloatArray) -> BootstrapInterval:
    defined = values[~np.isnan(values)]
    if len(defined) < MIN_DEFINED_FRACTION * len(values):
        raise TooFewPatientsError(
            f"an interval needs a value in {MIN_DEFINED_FRACTION:.0%} of the resamples, "
            f"got {len(defined)} of {len(values)}"
        )
    low, high = np.percentile(defined, (2.5, 97.5))
    return BootstrapInterval(float(low), float(high), len(values) - len(defined))
