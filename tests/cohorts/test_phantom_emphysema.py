from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cohorts import CohortSettings, ScannerSettings, render_scan
from cohorts.lidc_nodules import read_lidc_nodules
from cohorts.phantom_emphysema import MOST, draw_extent, emphysema_share
from cohorts.phantom_plan import plan_cohort

COARSE = ScannerSettings(spacing_mm=(6.0, 6.0, 6.0))


@pytest.mark.parametrize("extent", [0.05, 0.2, 0.4])
def test_the_share_of_the_lungs_is_the_one_asked_for(extent: float) -> None:
    flow, mottle = np.random.default_rng(0).standard_normal((2, 200_000)).astype(np.float32)
    share = emphysema_share(extent, flow, mottle)
    assert share.min() == 0 and share.max() == 1
    assert share.mean() == pytest.approx(extent, abs=0.01)


def test_destroyed_lung_lies_below_950_hu_and_none_leaves_the_scan_as_it_was() -> None:
    def scan(emphysema: float | None) -> np.ndarray:
        rng = np.random.default_rng(3)
        if emphysema is None:
            rendered = render_scan([], COARSE, rng)
        else:
            rendered = render_scan([], COARSE, rng, emphysema=emphysema)
        return rendered.image_hu[rendered.lungs > 0]

    healthy, none, ill = scan(None), scan(0.0), scan(0.4)
    assert np.array_equal(healthy, none)
    assert ill.mean() < healthy.mean() - 20
    assert (ill < -950).mean() > (healthy < -950).mean() + 0.02


def test_the_extent_is_exponential_and_tells_the_groups_apart_as_the_docstring_says() -> None:
    rng = np.random.default_rng(0)
    without = [draw_extent(0.03, rng) for _ in range(4000)]
    with_cancer = [draw_extent(0.09, rng) for _ in range(4000)]
    assert np.mean(without) == pytest.approx(0.03, rel=0.05)
    assert max(with_cancer) <= MOST
    labels = [0] * 4000 + [1] * 4000
    assert roc_auc_score(labels, without + with_cancer) == pytest.approx(3 / 4, abs=0.02)
    assert draw_extent(0.0, rng) == 0


def test_a_plan_draws_more_for_cancers_and_leaves_the_rest_of_the_cohort_alone() -> None:
    nodules = read_lidc_nodules()
    settings = CohortSettings(training=200, validation=0, testing=0)
    plain = plan_cohort(settings, nodules)
    ill = replace(settings, mean_emphysema=0.05, mean_emphysema_with_cancer=0.15)
    plans = plan_cohort(ill, nodules)
    assert [plan.nodules for plan in plans] == [plan.nodules for plan in plain]
    assert {plan.emphysema for plan in plain} == {0.0}
    groups = [[p.emphysema for p in plans if p.positive is positive] for positive in (False, True)]
    assert np.mean(groups[0]) == pytest.approx(0.05, abs=0.015)
    assert np.mean(groups[1]) == pytest.approx(0.15, abs=0.04)


def test_a_mean_beyond_the_most_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mean_emphysema must lie between 0 and 0.5, got 0.7"):
        CohortSettings(mean_emphysema=0.7)
