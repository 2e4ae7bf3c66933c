"""Sensitivity against false positives per scan, as LUNA16 reads it off the curve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def froc_sensitivities(
    marks: MatchedMarks, rates: Sequence[float] = FALSE_POSITIVES_PER_SCAN
) -> FloatArray:
    """Sensitivity at each of ``rates``, by default 1/8 ... 8 false positives per scan.

    The mean of those seven is LUNA16's score, the competition performance metric (CPM). The curve
    is linear between the scores that occur; missed nodules count in the denominator; where the
    marks end short of a rate, their last sensitivity holds. Without any found nodule it is 0, where
    the official evaluation has none.

    Args:
        marks: of a cohort.
        rates: rising, in false positives per scan.

    Raises:
        ValueError: no nodule in any scan, for which no sensitivity is defined.
    """
    if not marks.nodules.any():
        raise ValueError(
            f"a FROC curve needs at least one nodule, got 0 in {len(marks.nodules)} scans"
        )
    return next(_read_off(marks, [np.ones_like(marks.nodules)], rates))


def rate_thresholds(marks: MatchedMarks) -> FloatArray:
    """Lowest scores ``(7,)`` that let no more than 1/8 ... 8 false positives per scan pass.

    All marks of one score pass together. Infinity where even the marks of the highest score are
    too many, or where there is no mark; where the marks end short of a rate, the lowest score.
    """
    order, passing = _falling(marks.score)
    false = np.cumsum(~marks.is_nodule[order])
    last = passing[1:] - 1  # of the marks that share a score
    scores = np.concatenate(([np.inf], marks.score[order][last]))
    allowed = np.array(FALSE_POSITIVES_PER_SCAN) * len(marks.nodules)
    return scores[np.searchsorted(false[last], allowed, side="right")]


def froc_intervals(marks: MatchedMarks, *, resamples: int = 1000, seed: int = 0) -> FrocIntervals:
    """Bootstrap over scans, drawn with replacement; the ends are LUNA16's order statistics.

    Resamples in which no nodule was drawn have no value and are counted as ``skipped``.
    """
    values = _resampled(marks, resamples, seed)
    return FrocIntervals(
        tuple(_ends(column) for column in values.T),
        _ends(values.mean(axis=1)),
    )


def froc_band(
    marks: MatchedMarks, rates: Sequence[float], *, resamples: int = 1000, seed: int = 0
) -> tuple[BootstrapInterval, ...]:
    """The intervals of :func:`froc_intervals` at other ``rates``, which rise."""
    return tuple(_ends(column) for column in _resampled(marks, resamples, seed, rates).T)


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
    ours, theirs = (_resampled(side, resamples, seed).mean(axis=1) for side in (marks, others))
    difference = froc_sensitivities(marks).mean() - froc_sensitivities(others).mean()
    return float(difference), _ends(ours - theirs)


def _resampled(
    marks: MatchedMarks,
    resamples: int,
    seed: int,
    rates: Sequence[float] = FALSE_POSITIVES_PER_SCAN,
) -> FloatArray:
    """Sensitivities ``(resamples, rates)``; NaN in the rows of draws without a nodule."""
    return np.array(list(_read_off(marks, _draws(len(marks.nodules), resamples, seed), rates)))


def _draws(scan_count: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """How often each scan was drawn, once per resample."""
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples}")
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(scan_count, size=scan_count), minlength=scan_count)


def _falling(scores: FloatArray) -> tuple[IntArray, IntArray]:
    """The order of falling scores, and how many of it each threshold lets through, from none."""
    _, counts = np.unique(-scores, return_counts=True)
    return np.argsort(-scores, kind="stable"), np.cumsum(np.append(0, counts))


def _read_off(
    marks: MatchedMarks,
    draws: Iterable[IntArray],
    rates: Sequence[float] = FALSE_POSITIVES_PER_SCAN,
) -> Iterator[FloatArray]:
    """Sensitivities ``(rates,)`` for each draw of scans; NaN where it has no nodule.

    Rates go through the same divisions and products as in the official evaluation: at 1/8 false
    positives in 888 scans a rate's last bit decides which nodules are to its left.
    """
    order, passing = _falling(marks.score)
    scan, is_nodule = marks.scan[order], marks.is_nodule[order]
    false_scan, found_scan = scan[~is_nodule], scan[is_nodule]
    scan_count = len(marks.nodules)
    false_in_scan = np.bincount(false_scan, minlength=scan_count)
    # Of the marks that each threshold lets through, and the last threshold by its false ones.
    false_passing = np.append(0, np.cumsum(~is_nodule))[passing]
    found_passing = passing - false_passing
    threshold = np.searchsorted(false_passing, np.arange(len(false_scan) + 1), side="right") - 1
    # The curve is read up to here only; half as many false marks again suffice most draws.
    last_false = rates[-1] * scan_count
    enough = int(np.searchsorted(false_passing, 1.5 * last_false))
    leading = false_passing[min(enough, len(passing) - 1)]
    for times in draws:
        nodules = float(times @ marks.nodules)
        if not nodules:
            yield np.full(len(rates), np.nan)
            continue
        false, found = _cumulative(times, false_scan[:leading]), _cumulative(times, found_scan)
        if false[-1] <= last_false:
            false = _cumulative(times, false_scan)
        false_total = float(times @ false_in_scan)
        allowed = _allowed(np.asarray(rates), false_total, scan_count)
        below = threshold[np.searchsorted(false, allowed, side="right") - 1]
        # Of the whole curve, the points on either side of each rate.
        points = np.sort(np.append(below, np.minimum(below + 1, len(passing) - 1)))
        curve = _official_ratio(false[false_passing[points]], false_total, scan_count)
        sensitivity = _official_ratio(found[found_passing[points]], float(found[-1]), nodules)
        yield np.interp(rates, curve, sensitivity)


def _cumulative(times: IntArray, scan: IntArray) -> IntArray:
    """How many of the first marks were drawn, from none to all; each in its ``scan``."""
    drawn = np.zeros(len(scan) + 1, dtype=times.dtype)
    np.cumsum(times.take(scan), out=drawn[1:])
    return drawn


def _allowed(rates: FloatArray, total: float, scan_count: int) -> IntArray:
    """The most false marks whose official rate is not above each of ``rates``.

    Without rounding these were the whole ones in ``rates * scan_count``.
    """
    near = np.floor(rates * scan_count)
    one_more = _official_ratio(near + 1, total, scan_count) <= rates
    one_less = _official_ratio(near, total, scan_count) > rates
    return (near + one_more - one_less).astype(np.intp)


def _official_ratio(
    counts: FloatArray | IntArray, total: float, denominator: float
) -> FloatArray | IntArray:
    return counts / total * total / denominator if total else counts


def _ends(values: FloatArray) -> BootstrapInterval:
    defined = np.sort(values[~np.isnan(values)])
    if not len(defined):
        raise ValueError(f"an interval needs a resample with a nodule, got 0 of {len(values)}")
    low, high = (defined[int(share * len(defined))] for share in (_TAIL, 1 - _TAIL))
    return BootstrapInterval(float(low), float(high), len(values) - len(defined))
