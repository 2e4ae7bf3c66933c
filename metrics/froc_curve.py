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
    score, scan, is_nodule = marks.score[order], marks.scan[order], marks.is_nodule[order]
    is_false = (~is_nodule).astype(np.float64)
    changes = np.flatnonzero(score[1:] != score[:-1]) + 1
    passing = np.concatenate(([0], changes, [len(score)]))  # marks that each threshold lets through
    scan_count = len(marks.nodules)
    found_in_scan = np.bincount(scan, weights=is_nodule, minlength=scan_count)
    false_in_scan = np.bincount(scan, weights=is_false, minlength=scan_count)
    # The curve is read up to here only; half as many false marks again suffice most draws.
    last_false = FALSE_POSITIVES_PER_SCAN[-1] * scan_count
    enough = int(np.searchsorted(np.cumsum(is_false), 1.5 * last_false))
    leading = passing[: np.searchsorted(passing, enough) + 1]
    for times in draws:
        nodules = float(times @ marks.nodules)
        if not nodules:
            yield np.full(len(FALSE_POSITIVES_PER_SCAN), np.nan)
            continue
        weight = times.astype(np.float64)
        found, false = _cumulative(weight.take(scan[: leading[-1]]), is_false, leading)
        if false[-1] <= last_false:
            found, false = _cumulative(weight.take(scan), is_false, passing)
        rates = _official_ratio(false, float(weight @ false_in_scan), scan_count)
        sensitivity = _official_ratio(found, float(weight @ found_in_scan), nodules)
        yield np.interp(FALSE_POSITIVES_PER_SCAN, rates, sensitivity)


def _cumulative(
    weight: FloatArray, is_false: FloatArray, passing: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Found nodules and false marks among the first marks, as many as each of ``passing``."""
    passed, false = np.zeros(len(weight) + 1), np.zeros(len(weight) + 1)
    np.cumsum(weight, out=passed[1:])
    np.cumsum(weight * is_false[: len(weight)], out=false[1:])
    false = false.take(passing)
    return passed.take(passing) - false, false


def _official_ratio(counts: FloatArray, total: float, denominator: float) -> FloatArray:
    return counts / total * total / denominator if total else counts


def _ends(values: FloatArray) -> BootstrapInterval:
    defined = np.sort(values[~np.isnan(values)])
    if not len(defined):
        raise ValueError(f"an interval needs a resample with a nodule, got 0 of {len(values)}")
    low, high = (defined[int(share * len(defined))] for share in (_TAIL, 1 - _TAIL))
    return BootstrapInterval(float(low), float(high), len(values) - len(defined))
