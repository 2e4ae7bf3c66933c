"""LUNA16's numbers of a detector under their names."""

from __future__ import annotations

from metrics.bootstrap_interval import MIN_DEFINED_FRACTION, MIN_PATIENTS
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN, froc_intervals, froc_sensitivities
from metrics.match_marks import MatchedMarks

SENSITIVITIES = tuple(f"sensitivity_at_{rate:g}" for rate in FALSE_POSITIVES_PER_SCAN)


def froc_values(marks: MatchedMarks) -> dict[str, float]:
    """``cpm`` and ``sensitivity_at_0.125`` ... ``sensitivity_at_8``, with their 95 % intervals.

    The intervals, ``<name>_low`` and ``<name>_high``, are those of :func:`metrics.froc_intervals`.
    They are left out where :func:`has_intervals` is false.

    Raises:
        ValueError: no nodule in any scan.
    """
    sensitivities = froc_sensitivities(marks)
    values = {"cpm": float(sensitivities.mean())}
    values |= dict(zip(SENSITIVITIES, sensitivities.tolist(), strict=True))
    if has_intervals(marks):
        intervals = froc_intervals(marks)
        ends = (intervals.cpm, *intervals.sensitivities)
        for name, interval in zip(("cpm", *SENSITIVITIES), ends, strict=True):
            values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return values


def has_intervals(marks: MatchedMarks) -> bool:
    """Whether there are 10 scans or more, and nodules in 90 % or more of their resamples."""
    scans = len(marks.nodules)
    if scans < MIN_PATIENTS:
        return False
    without = (marks.nodules == 0).mean()
    return bool(1 - without**scans >= MIN_DEFINED_FRACTION)
