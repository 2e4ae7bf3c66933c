"""Sensitivity against false positives per scan, as LUNA16 reads it off the curve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from metrics.bootstrap_interval import BootstrapInterval
from metrics.luna16_csv import FloatArray, IntArray
from metrics.match_marks import MatchedMarks

FALSE_POSITIVES_PER_SCAN = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_TAIL = (1 - 0.95) / 2


class FrocIntervals(NamedTuple):
    """95 % intervals of the seven sensitivities and of their mean, the CPM."""

    sensitivities: tuple[BootstrapInterval, ...]
    cpm: BootstrapInterval


def froc_sensitivities(marks: MatchedMarks) -> FloatArray:
    """Sensitivity ``(7,)`` at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan.

    Their mean is LUNA16's score, the competition performance metric (CPM). The curve is linear
    between the scores that occur; missed nodules count in the denominator; where the marks end
    short of a rate, their last sensitivity holds. Without any found nodule it is 0, where the
    official evaluation has none.
    """
    return next(_read_off(marks, [np.ones_like(marks.nodules)]))


def froc_intervals(marks: MatchedMarks, *, resamples: int = 1000, seed: int = 0) -> FrocIntervals:
    """Bootstrap over scans, drawn with replacement; the ends are LUNA16's order statistics.

    Resamples in which no nodule was drawn have no value and are counted as ``skipped``.
    """
    values = np.array(list(_read_off(marks, _draws(len(marks.nodules), resamples, seed))))
    return FrocIntervals(
        tuple(_ends(column) for column in values.T),
        _ends(values.mean(axis=1)),
    )


def froc_difference(
    marks: MatchedMarks, others: MatchedMarks, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, BootstrapInterval]:
    """CPM of ``marks`` less that of ``others``, and its paired bootstrap interval.

    Both are read off the same draws of scans, which cancels what the scans have in common.

    Raises:
        ValueError: the two are not matched with the same nodules.
    """
    if not np.array_equal(marks.nodules, others.nodules):
        raise ValueError(
            f"a paired difference needs the same nodules on both sides, "
            f"got {marks.nodules.sum()} in {len(marks.nodules)} scans "
            f"and {others.nodules.sum()} in {len(others.nodules)}"
        )
    ours, theirs = (
        np.array(list(_read_off(side, _draws(len(side.nodules), resamples, seed)))).mean(axis=1)
        for side in (marks, others)
    )
    difference = froc_sensitivities(marks).mean() - froc_sensitivities(others).mean()
    return float(difference), _ends(ours - theirs)


def _draws(scan_count: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """How often each scan was drawn, once per resample."""
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(scan_count, size=scan_count), minlength=scan_count)


def _read_off(marks: MatchedMarks, draws: Iterable[IntArray]) -> Iterator[FloatArray]:
    """Sensitivities ``(7,)`` for each draw of scans; NaN where it has no nodule.

    Rates go through the same divisions and products as in the official evaluation: at 1/8 false
    positives in 888 scans a rate's last bit decides which nodules are to its left.
    """
    order = np.argsort(-marks.score, kind="stable")
    score, scan = marks.score[order], marks.scan[order]
    is_false = ~marks.is_nodule[order]
    ends = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else score[:0]
    ends = np.append(-1, ends).astype(np.intp) + 1  # how many marks each threshold lets through
    false = np.zeros(len(score) + 1)
    passed = np.zeros(len(score) + 1)
    for times in draws:
        nodules = float(times @ marks.nodules)
        if not nodules:
            yield np.full(len(FALSE_POSITIVES_PER_SCAN), np.nan)
            continue
        weight = times.astype(np.float64).take(scan)
        np.cumsum(weight, out=passed[1:])
        np.cumsum(weight * is_false, out=false[1:])
        false_count, true_count = false.take(ends), passed.take(ends)
        true_count -= false_count
        rates = _official_ratio(false_count, len(times))
        sensitivity = _official_ratio(true_count, nodules)
        yield np.interp(FALSE_POSITIVES_PER_SCAN, rates, sensitivity)


def _official_ratio(counts: FloatArray, denominator: float) -> FloatArray:
    total = counts[-1]
    return counts / total * total / denominator if total else counts


def _ends(values: FloatArray) -> BootstrapInterval:
    defined = np.sort(values[~np.isnan(values)])
    if not len(defined):
        raise ValueError(f"an interval needs a resample with a nodule, got 0 of {len(values)}")
    low, high = (defined[int(share * len(defined))] for share in (_TAIL, 1 - _TAIL))
    return BootstrapInterval(float(low), float(high), len(values) - len(defined))
