from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
from scipy.stats import bootstrap

from metrics import (
    TooFewPatientsError,
    bootstrap_interval,
    weighted_auroc,
    weighted_mean,
)


def _ids(count: int) -> list[str]:
    return [f"patient-{index:05d}" for index in range(count)]


def test_the_interval_of_a_mean_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=80)
    ours = bootstrap_interval(partial(weighted_mean, values), _ids(80), resamples=20_000)
    scipy = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    assert ours.low == pytest.approx(scipy.low, abs=0.01)
    assert ours.high == pytest.approx(scipy.high, abs=0.01)
    assert ours.skipped == 0


def test_the_weights_are_the_counts_of_whole_resamples() -> None:
    seen: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        seen.append(weights)
        return weights[:, 0]

    bootstrap_interval(statistic, _ids(700), resamples=3001)
    weights = np.concatenate(seen)
    assert len(seen) > 1 and weights.shape == (3001, 700)
    assert (weights.sum(axis=1) == 700).all()
    assert len(np.unique(weights, axis=0)) == 3001
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.1)


def test_the_scans_of_a_patient_are_drawn_together() -> None:
    values = np.random.default_rng(3).normal(size=40)
    once = bootstrap_interval(partial(weighted_mean, values), _ids(40))
    thrice = bootstrap_interval(partial(weighted_mean, np.repeat(values, 3)), sorted(_ids(40) * 3))
    assert thrice.low == pytest.approx(once.low) and thrice.high == pytest.approx(once.high)
    as_strangers = bootstrap_interval(partial(weighted_mean, np.repeat(values, 3)), _ids(120))
    assert as_strangers.high - as_strangers.low < 0.7 * (once.high - once.low)


def test_a_mean_under_weights_is_a_mean_of_repeated_scans() -> None:
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])
    assert weighted_mean([1, 2, 6], weights).tolist() == [3, 3, 1]


def test_the_seed_decides_and_the_order_of_the_scans_does_not() -> None:
    rng = np.random.default_rng(4)
    scores, labels, ids = rng.normal(size=60), np.arange(60) % 2, np.array(_ids(30) * 2)
    first = bootstrap_interval(partial(weighted_auroc, scores, labels), ids.tolist())
    order = rng.permutation(60)
    shuffled = partial(weighted_auroc, scores[order], labels[order])
    assert bootstrap_interval(shuffled, ids[order].tolist()) == first
    assert bootstrap_interval(shuffled, ids[order].tolist(), seed=1) != first


def test_resamples_of_one_class_are_skipped_and_counted() -> None:
    scores, labels = np.linspace(0, 1, 12), np.array([0, 1] * 2 + [0, 0, 1] + [0] * 5)
    masks: list[np.ndarray] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        masks.append((weights * labels).sum(axis=1) == 0)
        return weighted_auroc(scores, labels, weights)

    interval = bootstrap_interval(statistic, _ids(12))
    assert interval.skipped == sum(mask.sum() for mask in masks) > 0
    assert 0 <= interval.low < interval.high <= 1


@pytest.mark.parametrize(("patients", "positives"), [(9, 4), (0, 0), (40, 1), (40, 39), (40, 0)])
def test_too_few_patients_are_refused(patients: int, positives: int) -> None:
    labels = np.arange(patients) < positives
    statistic = partial(weighted_auroc, np.arange(patients), labels.astype(int))
    with pytest.raises(TooFewPatientsError, match="an interval needs"):
        bootstrap_interval(statistic, _ids(patients))


def test_many_scans_of_few_patients_are_still_few_patients() -> None:
    with pytest.raises(TooFewPatientsError, match="at least 10 patients, got 9"):
        bootstrap_interval(partial(weighted_mean, np.arange(900.0)), _ids(9) * 100)


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples must be 1 or more, got 0"):
        bootstrap_interval(partial(weighted_mean, np.arange(12.0)), _ids(12), resamples=0)


def test_ten_thousand_patients_take_about_a_second_at_most() -> None:
    rng = np.random.default_rng(5)
    labels = (rng.random(10_000) < 0.1).astype(int)
    statistic = partial(weighted_auroc, rng.normal(size=10_000) + labels, labels)
    start = time.process_time()
    bootstrap_interval(statistic, _ids(10_000))
    assert time.process_time() - start < 3  # 0.25 s alone on one core; the machine may be shared
