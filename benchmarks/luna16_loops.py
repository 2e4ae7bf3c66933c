"""LUNA16's evaluation as plain loops, for comparison in benchmarks and tests.

Written anew from the published rules, one mark, one finding and one resample at a time as in the
official script: every table is gone through once per series, every resample is put together scan
by scan, and its curve comes from scikit-learn. Slow, and kept so.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

FloatArray = npt.NDArray[np.float64]
Row = dict[str, str]

_MAX_MARKS = 100
_RATES = np.linspace(0.125, 8, 10_000)


class Outcome(NamedTuple):
    """One line per nodule and false mark; a missed nodule has no score that counts."""

    is_nodule: list[float]
    score: list[float]
    missed: list[bool]
    series: list[str]
    counts: dict[str, int]


def evaluate(annotations: Path, excluded: Path, series: list[str], submission: Path) -> Outcome:
    """Match the marks of a submission."""
    nodules, others, marks = (_rows(path) for path in (annotations, excluded, submission))
    outcome = Outcome([], [], [], [], dict.fromkeys(("true", "missed", "ignored", "double"), 0))
    for uid in series:
        mine = _capped([mark for mark in marks if mark["seriesuid"] == uid])
        left = dict(enumerate(mine))
        for nodule in nodules:
            if nodule["seriesuid"] == uid:
                _score_nodule(nodule, mine, left, outcome)
        for finding in others:
            if finding["seriesuid"] != uid:
                continue
            for number, mark in enumerate(mine):
                if number in left and _hits(mark, finding):
                    del left[number]
                    outcome.counts["ignored"] += 1
        for mark in left.values():
            _add(outcome, 0.0, float(mark["probability"]), False, uid)
    outcome.counts["false"] = len(outcome.score) - int(sum(outcome.is_nodule))
    return outcome


def curve(
    is_nodule: FloatArray, score: FloatArray, missed: FloatArray, scan_count: int
) -> tuple[FloatArray, FloatArray]:
    """False positives per scan and sensitivity at each threshold."""
    truth, values = [], []
    for index in range(len(missed)):
        if missed[index] == 0:
            truth.append(is_nodule[index])
            values.append(score[index])
    found, nodules = sum(truth), sum(is_nodule)
    false_rate, true_rate, _ = roc_curve(truth, values)
    if nodules == len(is_nodule):
        rates = np.zeros(len(false_rate))
    else:
        rates = false_rate * (len(truth) - found) / scan_count
    return rates, true_rate * found / nodules


def whole_curve(outcome: Outcome, scan_count: int) -> tuple[FloatArray, FloatArray]:
    """The curve of all scans."""
    columns = (outcome.is_nodule, outcome.score, outcome.missed)
    is_nodule, score, missed = (np.asarray(column, dtype=float) for column in columns)
    return curve(is_nodule, score, missed, scan_count)


def resampled_curves(
    outcome: Outcome, series: list[str], resamples: int, seed: int
) -> list[tuple[FloatArray, FloatArray]]:
    """The curves of scans drawn with replacement."""
    table = np.array([outcome.is_nodule, outcome.score, outcome.missed], dtype=float)
    of_scan: dict[str, FloatArray] = {}
    for column, uid in enumerate(outcome.series):
        line = table[:, column : column + 1]
        of_scan[uid] = np.concatenate((of_scan[uid], line), axis=1) if uid in of_scan else line
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(resamples):
        drawn = np.empty((3, 0))
        for scan in rng.integers(len(series), size=len(series)):
            if series[scan] in of_scan:
                drawn = np.concatenate((drawn, of_scan[series[scan]]), axis=1)
        curves.append(curve(drawn[0], drawn[1], drawn[2], len(series)))
    return curves


def band(curves: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Ends of the 95 % interval at 10,000 rates, as the official plot shows them."""
    values = np.array([np.interp(_RATES, *each) for each in curves], dtype=np.float32)
    values.sort(axis=0)
    return values[int(0.025 * len(values))], values[int(0.975 * len(values))]


def _rows(path: Path) -> list[Row]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _capped(marks: list[Row]) -> list[Row]:
    if len(marks) <= _MAX_MARKS:
        return marks
    limit = sorted((float(mark["probability"]) for mark in marks), reverse=True)[_MAX_MARKS]
    return [mark for mark in marks if float(mark["probability"]) > limit]


def _hits(mark: Row, finding: Row) -> bool:
    diameter = float(finding["diameter_mm"])
    radius = (10.0 if diameter < 0 else diameter) / 2
    squared = 0.0
    for name in ("coordX", "coordY", "coordZ"):
        squared += (float(finding[name]) - float(mark[name])) ** 2
    return squared < radius**2


def _score_nodule(nodule: Row, marks: list[Row], left: dict[int, Row], outcome: Outcome) -> None:
    scores = []
    for number, mark in enumerate(marks):
        if _hits(mark, nodule):
            scores.append(float(mark["probability"]))
            left.pop(number, None)
    outcome.counts["true" if scores else "missed"] += 1
    outcome.counts["double"] += max(0, len(scores) - 1)
    _add(outcome, 1.0, max(scores, default=-1e9), not scores, nodule["seriesuid"])


def _add(outcome: Outcome, label: float, score: float, missed: bool, uid: str) -> None:
    outcome.is_nodule.append(label)
    outcome.score.append(score)
    outcome.missed.append(missed)
    outcome.series.append(uid)
