from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from metrics import paired_differences, weighted_auroc, weighted_mean
from metrics.paired_differences import Statistic


def _ids(count: int) -> list[str]:
    return [f"patient-{index:03d}" for index in range(count)]


def _means(*seeds: list[float]) -> list[Statistic]:
    return [partial(weighted_mean, seed) for seed in seeds]


def test_mean_spread_and_difference_by_hand() -> None:
    zeros, halves = [0.0] * 10, [0.5] * 10
    arms = {"plain": _means([0.0] * 5 + [1.0] * 5), "taught": _means(zeros, halves, [1.0] * 10)}
    plain, taught = paired_differences(arms, _ids(10), reference="plain").values()
    assert plain.mean.value == 0.5 and plain.seed_values == [0.5]
    assert plain.seed_sd is None and plain.difference is None
    assert taught.mean == (0.5, 0.5, 0.5)  # no patient differs, so resampling sees no doubt
    assert taught.seed_values == [0.0, 0.5, 1.0] and taught.seed_sd == 0.5
    assert taught.difference is not None and taught.difference.value == 0
    # The reference alone varies with the patients.
    ends = (taught.difference.low, taught.difference.high)
    assert plain.mean.low is not None and plain.mean.high is not None
    assert ends == pytest.approx((0.5 - plain.mean.high, 0.5 - plain.mean.low))


def test_intervals_agree_with_a_plain_loop_over_the_same_draws() -> None:
    rng = np.random.default_rng(5)
    labels, scans, resamples = np.arange(24) % 2, 24, 300
    scores = {
        arm: rng.normal(size=(3, scans)) + labels * gain for arm, gain in (("a", 0), ("b", 1))
    }
    arms = {
        arm: [partial(weighted_auroc, seed, labels) for seed in seeds]
        for arm, seeds in scores.items()
    }
    found = paired_differences(arms, _ids(scans), reference="a", resamples=resamples)["b"]
    draws = np.random.default_rng(0).integers(scans, size=(resamples, scans), dtype=np.int32)
    means, gains = [], []
    for drawn in draws:
        of_arm = {
            arm: np.mean([roc_auc_score(labels[drawn], seed[drawn]) for seed in seeds])
            for arm, seeds in scores.items()
        }
        means.append(of_arm["b"])
        gains.append(of_arm["b"] - of_arm["a"])
    assert found.difference is not None
    assert found.mean[1:] == pytest.approx(np.percentile(means, (2.5, 97.5)))
    assert found.difference[1:] == pytest.approx(np.percentile(gains, (2.5, 97.5)))
    one = [roc_auc_score(labels, seed) for seed in scores["b"]]
    assert found.seed_values == pytest.approx(one)
    assert found.seed_sd == pytest.approx(np.std(one, ddof=1))


def test_what_a_patient_does_to_all_arms_alike_drops_out_of_the_difference() -> None:
    hard = np.random.default_rng(6).normal(size=40)
    arms = {"a": _means(hard.tolist()), "b": _means((hard + 0.1).tolist())}
    b = paired_differences(arms, _ids(40), reference="a")["b"]
    assert b.mean.low is not None and b.mean.high is not None
    assert b.mean.high - b.mean.low > 0.4
    assert b.difference == pytest.approx((0.1, 0.1, 0.1))


def test_the_scans_of_a_patient_are_drawn_together() -> None:
    values = np.random.default_rng(7).normal(size=20).tolist()
    once = paired_differences({"a": _means(values)}, _ids(20), reference="a")["a"]
    twice = paired_differences({"a": _means(values * 2)}, _ids(20) * 2, reference="a")["a"]
    assert twice.mean == pytest.approx(once.mean)


def test_few_patients_have_no_interval_and_one_class_has_no_auroc() -> None:
    few = paired_differences({"a": _means([0.0, 1.0])}, ["p", "q"], reference="a")["a"]
    assert few.mean == (0.5, None, None)
    arms = {name: [partial(weighted_auroc, np.arange(12), np.ones(12))] for name in ("a", "b")}
    one_class = paired_differences(arms, _ids(12), reference="a")["b"]
    assert one_class.mean == (None, None, None) == one_class.difference
    assert one_class.seed_values == [None] and one_class.seed_sd is None


def test_no_scans_have_no_value() -> None:
    assert paired_differences({"a": _means([])}, [], reference="a")["a"].mean.value is None


def test_a_reference_and_seeds_are_needed() -> None:
    with pytest.raises(ValueError, match="reference must be one of a, b, got c"):
        paired_differences({"a": _means([1.0]), "b": _means([1.0])}, ["p"], reference="c")
    with pytest.raises(ValueError, match="every arm must have one seed or more, got none for b"):
        paired_differences({"a": _means([1.0]), "b": []}, ["p"], reference="a")
