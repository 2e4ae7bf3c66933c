from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from metrics import NoCalibrationError, platt_scaling


def _cohort(scans: int, years: int = 1, scale: float = 3.0):
    rng = np.random.default_rng(scans + years)
    evidence = rng.normal(size=(scans, years)).cumsum(axis=1)
    truth = 1 / (1 + np.exp(-(1.2 * evidence - 0.4)))
    return scale * evidence + 2, (rng.random((scans, years)) < truth).astype(int)


class _LogitAsScore(ClassifierMixin, BaseEstimator):
    """Hands the logit to scikit-learn's calibration as it is."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return (x[:, 0] > 0).astype(int)


@pytest.mark.parametrize("scale", [0.01, 3.0, 200.0])
def test_one_logit_as_scikit_learn_does_it(scale):
    logits, labels = _cohort(60, scale=scale)
    fitted = platt_scaling(logits, labels, np.ones_like(labels))
    peer = CalibratedClassifierCV(FrozenEstimator(_LogitAsScore().fit(None, None)))
    peer.fit(logits, labels[:, 0])
    expected = peer.predict_proba(logits)[:, 1]
    risk = 1 / (1 + np.exp(-(fitted.slope * logits[:, 0] + fitted.intercept)))
    np.testing.assert_allclose(risk, expected, atol=2e-4)


def test_years_against_a_plain_loop():
    logits, labels = _cohort(40, years=3)
    rng = np.random.default_rng(1)
    known = rng.random(labels.shape) < 0.7
    weights = known * (1 + 4 * rng.random(labels.shape))
    positives = sum(labels[i, 2] == 1 and known[i, 2] for i in range(40))
    negatives = sum(labels[i, 2] == 0 and known[i, 2] for i in range(40))

    def loss(parameters):
        total = 0.0
        for i, year in zip(*np.nonzero(known), strict=True):
            risk = 1 / (1 + np.exp(-(parameters[0] * logits[i, year] + parameters[1])))
            target = (positives + 1) / (positives + 2) if labels[i, year] else 1 / (negatives + 2)
            likelihood = target * np.log(risk) + (1 - target) * np.log(1 - risk)
            total -= weights[i, year] * likelihood
        return total

    expected = minimize(loss, [0.1, 0.0], method="Nelder-Mead", options={"xatol": 1e-8}).x
    fitted = platt_scaling(logits, labels, weights)
    np.testing.assert_allclose(fitted, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_known_changes_nothing():
    logits, labels = _cohort(40)
    more_logits = np.vstack([logits, [[np.nan], [1e9]]])
    more_labels = np.vstack([labels, [[1], [0]]])
    known = np.ones_like(more_labels)
    known[-2:] = 0
    assert platt_scaling(more_logits, more_labels, known) == platt_scaling(
        logits, labels, np.ones_like(labels)
    )


def test_separable_classes_stay_finite():
    """With both classes at one logit each, the fit gives Platt's targets exactly."""
    logits = np.array([[-9.0]] * 7 + [[30.0]] * 5)
    labels = (logits > 0).astype(int)
    slope, intercept = platt_scaling(logits, labels, np.ones_like(labels))
    risk = 1 / (1 + np.exp(-(slope * np.array([-9.0, 30.0]) + intercept)))
    np.testing.assert_allclose(risk, [1 / 9, 6 / 7], rtol=1e-5)


@pytest.mark.parametrize(("positives", "negatives"), [(0, 20), (4, 20), (20, 4), (0, 1), (1, 0)])
def test_few_scans_of_a_class_are_refused(positives, negatives):
    labels = np.array([[1]] * positives + [[0]] * negatives)
    sentence = f"at least 5 positives and 5 negatives, got {positives} and {negatives}"
    with pytest.raises(NoCalibrationError, match=sentence):
        platt_scaling(labels * 1.0, labels, np.ones_like(labels))


def test_the_count_is_that_of_the_last_year():
    logits, labels = np.arange(20.0).reshape(10, 2), np.array([[0, 1]] * 5 + [[0, 0]] * 5)
    known = np.ones_like(labels)
    known[0, 1] = 0
    with pytest.raises(NoCalibrationError, match="got 4 and 5"):
        platt_scaling(logits, labels, known)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_logits_that_do_not_rise_with_the_label_are_refused(sign):
    labels = np.array([[1]] * 6 + [[0]] * 7)
    logits = sign * (labels + np.linspace(0, 0.1, 13)[:, None])
    with pytest.raises(NoCalibrationError, match=r"got slope .* for 6 positives and 7 negatives"):
        platt_scaling(logits, labels, np.ones_like(labels))


def test_a_logit_that_is_not_finite_is_refused():
    logits, labels = _cohort(40)
    logits[3] = np.nan
    with pytest.raises(NoCalibrationError, match="finite logits, got 1 others"):
        platt_scaling(logits, labels, np.ones_like(labels))
