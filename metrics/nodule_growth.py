"""How fast a nodule grows."""

from __future__ import annotations

import math
from datetime import date

from metrics.nodule_guidelines import (
    BTS_GROWTH_PERCENT,
    FLEISCHNER_GROWTH_MM,
    LUNG_RADS_GROWTH_MM,
)

DAYS_PER_YEAR = 365.25


def days_between(before: date, after: date) -> int:
    """Days from one scan to the next.

    Raises:
        ValueError: the same day, or the wrong order.
    """
    days = (after - before).days
    if days <= 0:
        raise ValueError(
            f"the second scan must be of a later day than the first, got {before} and {after}"
        )
    return days


def growth_percent(before: float, after: float) -> float:
    """Change of a volume, a diameter or a mass in per cent of what it was.

    Raises:
        ValueError: a size that is not finite and above 0.
    """
    _check_sizes(before, after)
    return 100 * (after / before - 1)


def doubling_time_days(before: float, after: float, days: float) -> float:
    """Days in which a volume or a mass doubles: ``ln 2 * days / ln(after / before)``.

    Exponential growth is assumed (Schwartz, Cancer 14:1272, 1961). Below 0 it is the time in which
    a shrinking nodule halves; inf where nothing changed.

    Raises:
        ValueError: a size or ``days`` that is not finite and above 0.
    """
    _check_sizes(before, after)
    if not (math.isfinite(days) and days > 0):
        raise ValueError(f"days between two scans must be finite and above 0, got {days}")
    growth = math.log(after / before)
    return math.inf if growth == 0 else math.log(2) * days / growth


def lung_rads_growth(before_mm: float, after_mm: float, days: float) -> bool:
    """Whether a mean diameter grew by more than 1.5 mm within 12 months (Lung-RADS v2022).

    Over more than a year the increase counts by its share of a year: then at least one year had so
    much. False is no proof of the contrary, as two scans years apart do not show each year.

    Raises:
        ValueError: a diameter or ``days`` that is not finite and above 0.
    """
    _check_sizes(before_mm, after_mm)
    if not (math.isfinite(days) and days > 0):
        raise ValueError(f"days between two scans must be finite and above 0, got {days}")
    # Diameters are reported to a tenth: 1.5000000001 is 1.5.
    increase_mm = round(after_mm - before_mm, 6)
    return increase_mm / max(days / DAYS_PER_YEAR, 1.0) > LUNG_RADS_GROWTH_MM


def fleischner_growth(before_mm: float, after_mm: float) -> bool:
    """Whether a mean diameter grew by 2 mm or more (MacMahon, Radiology 284:228, 2017).

    The diameters are compared as measured: rounded to whole millimetres as they are reported,
    an increase of 1.1 mm could pass for one of 2.

    Raises:
        ValueError: a diameter that is not finite and above 0.
    """
    _check_sizes(before_mm, after_mm)
    return round(after_mm - before_mm, 6) >= FLEISCHNER_GROWTH_MM


def bts_growth(before_mm3: float, after_mm3: float) -> bool:
    """Whether a volume grew by 25 % or more (Callister, Thorax 70 Suppl 2:ii1, 2015).

    Raises:
        ValueError: a volume that is not finite and above 0.
    """
    return round(growth_percent(before_mm3, after_mm3), 6) >= BTS_GROWTH_PERCENT


def _check_sizes(before: float, after: float) -> None:
    for size in (before, after):
        if not (math.isfinite(size) and size > 0):
            raise ValueError(
                f"sizes must be finite and above 0 to be compared, got {before} and {after}"
            )
