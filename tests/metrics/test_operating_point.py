from __future__ import annotations

import numpy as np
import pytest

from metrics import sensitivity_threshold


@pytest.mark.parametrize("target", [0.01, 0.3, 0.5, 0.55, 0.7, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("scans", [1, 10, 33, 100])
def test_against_a_search_of_every_threshold(target, scans):
    rng = np.random.default_rng(scans)
    risks, labels = rng.integers(0, 30, scans) / 30, rng.random(scans) < 0.5
    labels[0] = True

    def sensitivity(threshold):
        return np.mean([risk >= threshold for risk in risks[labels]])

    expected = max(threshold for threshold in risks if sensitivity(threshold) >= target)
    assert (
        sensitivity_threshold(risks, labels, np.ones(len(risks)), target_sensitivity=target)
        == expected
    )


def test_by_hand():
    risks, labels = [0.9, 0.8, 0.7, 0.6, 0.95], [1, 1, 1, 1, 0]
    assert sensitivity_threshold(risks, labels, np.ones(len(risks)), target_sensitivity=0.75) == 0.7
    assert sensitivity_threshold(risks, labels, np.ones(len(risks)), target_sensitivity=0.76) == 0.6


@pytest.mark.parametrize("target", [0.1, 0.5, 0.8, 1.0])
def test_weights_act_as_repeated_scans(target):
    rng = np.random.default_rng(1)
    risks, labels, times = rng.random(40), rng.random(40) < 0.5, rng.integers(1, 6, 40)
    expected = sensitivity_threshold(
        np.repeat(risks, times),
        np.repeat(labels, times),
        np.ones(times.sum()),
        target_sensitivity=target,
    )
    assert sensitivity_threshold(risks, labels, times, target_sensitivity=target) == expected


@pytest.mark.parametrize("target", [0.0, -0.1, 1.01, float("nan")])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match=f"target_sensitivity must be .* 1, got {target}"):
        sensitivity_threshold([0.5], [1], [1], target_sensitivity=target)


@pytest.mark.parametrize("scans", [0, 3])
def test_no_positive_is_refused(scans):
    with pytest.raises(ValueError, match=f"needs a positive, got 0 in {scans} scans"):
        sensitivity_threshold([0.5] * scans, [0] * scans, [1] * scans, target_sensitivity=0.9)
