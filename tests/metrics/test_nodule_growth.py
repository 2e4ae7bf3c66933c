from __future__ import annotations

import math
from datetime import date

import pytest

from metrics.nodule_growth import (
    bts_growth,
    days_between,
    doubling_time_days,
    fleischner_growth,
    growth_percent,
    lung_rads_growth,
)


def test_growth_by_hand() -> None:
    assert growth_percent(100, 126) == pytest.approx(26)
    assert growth_percent(100, 50) == pytest.approx(-50)
    assert doubling_time_days(100, 200, 90) == pytest.approx(90)
    assert doubling_time_days(100, 800, 90) == pytest.approx(30)
    assert doubling_time_days(100, 50, 90) == pytest.approx(-90)
    assert doubling_time_days(100, 100, 90) == math.inf


def test_days_and_their_order() -> None:
    assert days_between(date(2024, 2, 28), date(2024, 3, 1)) == 2
    for after in (date(2024, 2, 28), date(2024, 2, 27)):
        with pytest.raises(
            ValueError, match="must be of a later day than the first, got 2024-02-28"
        ):
            days_between(date(2024, 2, 28), after)


@pytest.mark.parametrize(
    ("before_mm", "after_mm", "days", "grows"),
    [
        (6.0, 7.5, 365, False),
        (6.0, 7.6, 365, True),
        (6.0, 7.6, 90, True),
        (6.1, 7.6, 90, False),
        (6.0, 7.6, 731, False),
        (6.0, 9.1, 730, True),
        (9.0, 6.0, 90, False),
    ],
)
def test_growth_of_lung_rads(before_mm: float, after_mm: float, days: float, grows: bool) -> None:
    assert lung_rads_growth(before_mm, after_mm, days) is grows


@pytest.mark.parametrize(
    ("after_mm", "grows"), [(8.5, True), (8.4, False), (9.0, True), (6.5, False), (3.0, False)]
)
def test_growth_of_fleischner(after_mm: float, grows: bool) -> None:
    assert fleischner_growth(6.5, after_mm) is grows


@pytest.mark.parametrize(("after_mm3", "grows"), [(125.0, True), (124.9, False), (50.0, False)])
def test_growth_of_the_british_thoracic_society(after_mm3: float, grows: bool) -> None:
    assert bts_growth(100.0, after_mm3) is grows


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf])
def test_bad_sizes_and_days_are_refused(size: float) -> None:
    with pytest.raises(ValueError, match="sizes must be finite and above 0"):
        growth_percent(size, 5)
    with pytest.raises(ValueError, match="sizes must be finite and above 0"):
        doubling_time_days(5, size, 30)
    for growth in (fleischner_growth, bts_growth):
        with pytest.raises(ValueError, match="sizes must be finite and above 0"):
            growth(size, 5)
    for call in (doubling_time_days, lung_rads_growth):
        with pytest.raises(ValueError, match="days between two scans must be finite and above 0"):
            call(5, 6, size)
