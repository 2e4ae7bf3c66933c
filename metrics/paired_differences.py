"""Several ways of training, each with several seeds, judged on the same patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metrics.bootstrap_interval import FloatArray, TooFewPatientsError, bootstrap_interval

# From weights (resamples, scans) to one value per resample, as bootstrap_interval takes it.
Statistic = Callable[[FloatArray], FloatArray]


class Estimate(NamedTuple):
    """A value with its 95 % interval; None where there is no value, or no interval to it."""

    value: float | None
    low: float | None
    high: float | None


class ArmEstimates(NamedTuple):
    """One arm of a comparison.

    Attributes:
        mean: mean over the seeds; its interval tells of the test patients only.
        seed_values: each seed's own value, None where it has none.
        seed_sd: standard deviation over the seeds (n - 1), None with fewer than two values.
        difference: of the mean to that of the reference, on the same patients; None for the
            reference itself.
    """

    mean: Estimate
    seed_values: list[float | None]
    seed_sd: float | None
    difference: Estimate | None


def paired_differences(
    arms: Mapping[str, Sequence[Statistic]],
    patient_ids: Sequence[str],
    *,
    reference: str,
    resamples: int = 1000,
) -> dict[str, ArmEstimates]:
    """Mean of each arm over its seeds, and its paired difference to the reference.

    The intervals are patient bootstraps (:func:`metrics.bootstrap_interval`). Every arm and seed
    is judged on the same resampled patients, so what a patient does to all of them alike drops
    out of a difference. The trainings are taken as they are: how much another seed would change,
    ``seed_sd`` tells and the interval does not.

    Args:
        arms: one statistic per seed for each arm, all of the same scans.
        patient_ids: one per scan.
        reference: the arm that the others are compared with.
        resamples: number of resamples, 1 or more.

    Raises:
        ValueError: the reference is no arm, or an arm has no seed.
    """
    if reference not in arms:
        raise ValueError(f"reference must be one of {', '.join(arms)}, got {reference}")
    empty = [name for name, seeds in arms.items() if not seeds]
    if empty:
        raise ValueError(f"every arm must have one seed or more, got none for {empty[0]}")
    base = arms[reference]
    results = {}
    for name, seeds in arms.items():
        values = [_value(seed, patient_ids) for seed in seeds]
        defined = [value for value in values if value is not None]
        results[name] = ArmEstimates(
            mean=_estimate(_seed_mean(seeds), patient_ids, resamples),
            seed_values=values,
            seed_sd=float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
            difference=None
            if name == reference
            else _estimate(_minus(seeds, base), patient_ids, resamples),
        )
    return results


def _seed_mean(seeds: Sequence[Statistic]) -> Statistic:
    return lambda weights: np.mean([seed(weights) for seed in seeds], axis=0)


def _minus(seeds: Sequence[Statistic], base: Sequence[Statistic]) -> Statistic:
    return lambda weights: _seed_mean(seeds)(weights) - _seed_mean(base)(weights)


def _estimate(statistic: Statistic, patient_ids: Sequence[str], resamples: int) -> Estimate:
    value = _value(statistic, patient_ids)
    if value is None:
        return Estimate(None, None, None)
    try:
        low, high, _ = bootstrap_interval(statistic, patient_ids, resamples=resamples)
    except TooFewPatientsError:
        return Estimate(value, None, None)
    return Estimate(value, low, high)


def _value(statistic: Statistic, patient_ids: Sequence[str]) -> float | None:
    """The statistic of the cohort as it is, None where it has none."""
    if not patient_ids:
        return None
    value = float(statistic(np.ones((1, len(patient_ids))))[0])
    return None if np.isnan(value) else value
