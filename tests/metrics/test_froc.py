from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import luna16_loops
from metrics.froc_curve import (
    FALSE_POSITIVES_PER_SCAN,
    froc_band,
    froc_difference,
    froc_intervals,
    froc_sensitivities,
    rate_thresholds,
)
from metrics.froc_values import froc_values
from metrics.luna16_csv import ScanPoints, read_findings, read_marks, read_series
from metrics.match_marks import MatchedMarks, best_marks, match_marks, rows_of

_LUNA16 = Path(__file__).parents[2] / ".." / "shared" / "data" / "luna16"


class _Tables:
    """A cohort's four tables in one folder, and our reading of them."""

    def __init__(self, folder: Path, series: list[str]) -> None:
        self.series = series
        self.annotations = folder / "annotations.csv"
        self.excluded = folder / "excluded.csv"
        self.seriesuids = folder / "seriesuids.csv"
        self.submission = folder / "submission.csv"
        self.seriesuids.write_text("".join(f"{uid}\n" for uid in series))

    def write(self, name: str, value: str, rows: list[tuple]) -> Path:
        path: Path = self.annotations.with_name(f"{name}.csv")
        lines = [f"seriesuid,coordX,coordY,coordZ,{value}", *(",".join(map(str, r)) for r in rows)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def matched(self, submission: Path | None = None) -> MatchedMarks:
        return match_marks(
            read_marks(submission or self.submission, self.series),
            read_findings(self.annotations, self.series),
            read_findings(self.excluded, self.series),
            len(self.series),
        )

    def outcome(self) -> luna16_loops.Outcome:
        return luna16_loops.evaluate(self.annotations, self.excluded, self.series, self.submission)


def _random_tables(folder: Path, *, scans: int, seed: int, decimals: int) -> _Tables:
    """Crowded findings, so that marks hit several; few decimals make scores tie."""
    rng = np.random.default_rng(seed)
    tables = _Tables(folder, [f"1.2.{scan}" for scan in range(scans)])

    def rows(count: int, values: np.ndarray) -> list[tuple]:
        uids = rng.choice(tables.series[: scans - 2], count)
        centres = rng.uniform(-20, 20, (count, 3)).round(3)
        return [(u, *c, v) for u, c, v in zip(uids, centres.tolist(), values, strict=True)]

    tables.write("annotations", "diameter_mm", rows(scans, rng.uniform(3, 30, scans)))
    tables.write("excluded", "diameter_mm", rows(3 * scans, rng.choice([-1.0, 4, 12], 3 * scans)))
    marks = 30 * scans
    tables.write("submission", "probability", rows(marks, rng.random(marks).round(decimals)))
    crowded = [(tables.series[0], *rng.uniform(-20, 20, 3), s) for s in rng.random(130).round(2)]
    with tables.submission.open("a") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in crowded)
    return tables


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_counts_and_the_curve_are_those_of_the_loops(
    tmp_path: Path, seed: int, decimals: int
) -> None:
    tables = _random_tables(tmp_path, scans=24, seed=seed, decimals=decimals)
    marks, outcome = tables.matched(), tables.outcome()
    assert {name: getattr(marks, name) for name in outcome.counts} == outcome.counts
    assert min(outcome.counts.values()) > 0
    expected = np.interp(
        FALSE_POSITIVES_PER_SCAN, *luna16_loops.whole_curve(outcome, len(tables.series))
    )
    np.testing.assert_allclose(froc_sensitivities(marks), expected, rtol=1e-12)


def test_each_resample_and_the_interval_are_those_of_the_loops(tmp_path: Path) -> None:
    tables = _random_tables(tmp_path, scans=24, seed=3, decimals=2)
    curves = luna16_loops.resampled_curves(tables.outcome(), tables.series, 80, seed=5)
    values = np.array([np.interp(FALSE_POSITIVES_PER_SCAN, *curve) for curve in curves])
    intervals = froc_intervals(tables.matched(), resamples=80, seed=5)
    for ours, column in zip(intervals.sensitivities, np.sort(values, axis=0).T, strict=True):
        assert (ours.low, ours.high) == pytest.approx((column[2], column[78]), rel=1e-12)
    cpm = np.sort(values.mean(axis=1))
    assert intervals.cpm == pytest.approx((cpm[2], cpm[78], 0), rel=1e-12)


def test_a_draw_without_the_scan_of_most_false_marks_is_read_off_further_down() -> None:
    rng = np.random.default_rng(0)
    scan = np.concatenate((np.repeat(np.arange(10), 6), np.zeros(300, dtype=int)))
    is_nodule = np.arange(360) % 6 < 3
    is_nodule[60:] = False
    score = rng.random(360) + (scan == 0)
    marks = MatchedMarks(scan, score, is_nodule, np.full(10, 3), ignored=0, double=0)
    series = [str(number) for number in range(10)]
    outcome = luna16_loops.Outcome(
        is_nodule.tolist(), score.tolist(), [False] * 360, [str(number) for number in scan], {}
    )
    curves = luna16_loops.resampled_curves(outcome, series, 60, seed=1)
    cpm = np.sort([np.interp(FALSE_POSITIVES_PER_SCAN, *curve).mean() for curve in curves])
    ours = froc_intervals(marks, resamples=60, seed=1).cpm
    assert ours == pytest.approx((cpm[1], cpm[58], 0), rel=1e-12)


def test_the_rate_of_one_in_eight_of_888_scans_is_read_off_as_by_the_loops() -> None:
    rng = np.random.default_rng(0)
    for false in range(110, 400, 3):  # 111 false marks are 1/8 a scan, up to the last bit
        is_nodule = np.arange(false + 300) < 300
        score = rng.permutation(len(is_nodule)).astype(float)
        marks = MatchedMarks(
            np.zeros(len(score), dtype=int), score, is_nodule, np.array([310] + 887 * [0]), 0, 0
        )
        missed = np.append(np.zeros(len(score)), np.ones(10))
        labels = np.append(is_nodule.astype(float), np.ones(10))
        curve = luna16_loops.curve(labels, np.append(score, np.full(10, -1e9)), missed, 888)
        expected = np.interp(FALSE_POSITIVES_PER_SCAN, *curve)
        np.testing.assert_allclose(froc_sensitivities(marks), expected, rtol=1e-12)


def _points(*rows: tuple[int, float, float]) -> ScanPoints:
    """Scan, x in mm, value; y and z are 0."""
    table = np.array(rows, dtype=float).reshape(-1, 3)
    centre_mm = np.stack([table[:, 1], np.zeros(len(table)), np.zeros(len(table))], axis=1)
    return ScanPoints(table[:, 0].astype(int), centre_mm, table[:, 2])


def test_a_hit_is_strictly_under_the_radius_and_a_negative_diameter_is_10_mm() -> None:
    nodules = _points((0, 0, 6), (0, 100, 6), (1, 0, -1))
    marks = _points((0, 3.0, 0.9), (0, 102.9, 0.8), (1, 4.9, 0.7), (1, 5.0, 0.6))
    matched = match_marks(marks, nodules, _points(), 2)
    assert (matched.true, matched.false, matched.missed) == (2, 2, 1)
    assert sorted(matched.score[matched.is_nodule]) == [0.7, 0.8]
    assert matched.nodules.tolist() == [2, 1]


def test_a_mark_on_an_excluded_finding_is_ignored_unless_it_hits_a_nodule() -> None:
    marks = _points((0, 0, 0.2), (0, 1, 0.9), (0, 50, 0.8), (0, 52, 0.7), (0, 200, 0.1))
    excluded = _points((0, 1, -1), (0, 50, 10), (0, 51, 10))
    matched = match_marks(marks, _points((0, 0, 8)), excluded, 1)
    assert (matched.true, matched.false, matched.ignored, matched.double) == (1, 1, 2, 1)
    assert matched.score[matched.is_nodule].tolist() == [0.9]  # the better of its two marks


def test_of_more_than_100_marks_those_above_the_101st_stay() -> None:
    far = [(0, 1000.0 + mark, 1.0 - 0.001 * mark) for mark in range(100)]
    nodule = _points((0, 0, 8))
    assert match_marks(_points(*far), nodule, _points(), 1).false == 100
    one_more = match_marks(_points(*far, (0, 0, 0.5)), nodule, _points(), 1)
    assert (one_more.false, one_more.missed) == (100, 1)
    tied = [(0, x, 0.95 if index > 40 else score) for index, (_, x, score) in enumerate(far)]
    assert match_marks(_points(*tied, (0, 0, 0.5), (0, 5, 0.4)), nodule, _points(), 1).false == 100
    more_tied = match_marks(_points(*tied, (0, 2000, 0.95)), nodule, _points(), 1)
    assert more_tied.false == 41  # the 101st is tied with 59 others, none of which stays


def test_sensitivities_of_a_curve_drawn_by_hand() -> None:
    # Two scans, four nodules, one missed: found at 0.9, 0.7 and 0.3, false at 0.8 and 0.3.
    marks = MatchedMarks(
        scan=np.array([0, 1, 1, 0, 1]),
        score=np.array([0.9, 0.7, 0.3, 0.8, 0.3]),
        is_nodule=np.array([True, True, True, False, False]),
        nodules=np.array([2, 2]),
        ignored=0,
        double=0,
    )
    expected = [0.25, 0.25, 0.5, 0.75, 0.75, 0.75, 0.75]
    np.testing.assert_allclose(froc_sensitivities(marks), expected)


def test_a_submission_without_a_false_mark_or_without_a_hit() -> None:
    nodules = _points((0, 0, 8), (1, 0, 8))
    perfect = match_marks(_points((0, 0, 0.5), (1, 0, 0.6)), nodules, _points(), 2)
    assert froc_sensitivities(perfect).tolist() == [1.0] * 7
    useless = match_marks(_points((0, 90, 0.5)), nodules, _points(), 2)
    assert froc_sensitivities(useless).tolist() == [0.0] * 7
    nothing = match_marks(_points(), nodules, _points(), 2)
    assert froc_sensitivities(nothing).tolist() == [0.0] * 7
    assert nothing.missed == 2


def _random_cohort(seed: int) -> tuple[ScanPoints, ScanPoints]:
    """Marks and nodules on a line in 12 scans, unsorted; scores of one digit, so many are tied."""
    rng = np.random.default_rng(seed)
    scan = rng.integers(12, size=110).tolist()
    marks = [(here, rng.uniform(0, 60), rng.integers(10) / 10) for here in scan[:90]]
    nodules = [(here, rng.uniform(0, 60), rng.uniform(4, 20)) for here in scan[90:]]
    return _points(*marks), _points(*nodules)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_mark_of_a_nodule_is_that_of_the_loops(seed: int) -> None:
    marks, nodules = _random_cohort(seed)
    expected = []
    for scan, centre, diameter in zip(*nodules, strict=True):
        best = -1
        for row in range(len(marks.scan)):
            hits = abs(marks.centre_mm[row, 0] - centre[0]) < diameter / 2
            if scan == marks.scan[row] and hits:
                best = row if best < 0 or marks.value[row] > marks.value[best] else best
        expected.append(best)
    assert -1 in expected
    assert best_marks(marks, nodules, 12).tolist() == expected
    far = _points(*((0, 1000 + 100 * n, 0.9) for n in range(100)), (0, 0, 0.8))
    assert best_marks(far, _points((0, 0, 8)), 1).tolist() == [-1]  # the 101st mark
    assert best_marks(_points(), nodules, 12).tolist() == [-1] * 20
    assert best_marks(marks, _points(), 12).tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_a_threshold_is_the_lowest_score_within_its_rate(seed: int) -> None:
    matched = match_marks(*_random_cohort(seed), _points(), 12)
    thresholds = rate_thresholds(matched)
    for rate, threshold in zip(FALSE_POSITIVES_PER_SCAN, thresholds, strict=True):
        within = [
            score
            for score in matched.score.tolist()
            if sum(~matched.is_nodule & (matched.score >= score)) <= rate * 12
        ]
        assert threshold == min(within, default=np.inf)
    assert thresholds[0] > thresholds[-1]


def test_thresholds_that_no_score_keeps() -> None:
    two_false = match_marks(_points((0, 90, 0.5), (0, 80, 0.5)), _points((0, 0, 8)), _points(), 1)
    assert rate_thresholds(two_false).tolist() == [np.inf] * 4 + [0.5] * 3
    nothing = match_marks(_points(), _points(), _points(), 3)
    assert rate_thresholds(nothing).tolist() == [np.inf] * 7
    assert rate_thresholds(match_marks(_points(), _points(), _points(), 0)).tolist() == [np.inf] * 7


def test_the_curve_and_its_band_between_the_seven_rates() -> None:
    matched = match_marks(*_random_cohort(0), _points(), 12)
    rates = [0.125, 0.2, 0.25, 0.5, 0.7, 1, 2, 4, 5, 8]
    those = [rates.index(rate) for rate in FALSE_POSITIVES_PER_SCAN]
    curve = froc_sensitivities(matched, rates)
    np.testing.assert_array_equal(curve[those], froc_sensitivities(matched))
    assert curve[0] <= curve[1] <= curve[2]
    band = froc_band(matched, rates, resamples=50)
    expected = froc_intervals(matched, resamples=50).sensitivities
    assert tuple(band[index] for index in those) == expected


def test_others_given_as_excluded_leave_the_false_marks_of_all() -> None:
    marks, nodules = _random_cohort(1)
    part, others = rows_of(nodules, np.arange(8)), rows_of(nodules, np.arange(20) >= 8)
    whole = match_marks(marks, nodules, _points(), 12)
    of_part = match_marks(marks, part, others, 12)
    of_others = match_marks(marks, others, part, 12)
    assert of_part.false == of_others.false == whole.false
    assert of_part.true + of_others.true == whole.true
    sensitivities = 8 * froc_sensitivities(of_part) + 12 * froc_sensitivities(of_others)
    np.testing.assert_allclose(sensitivities / 20, froc_sensitivities(whole), rtol=1e-12)


def test_values_have_intervals_where_nodules_are_drawn_often_enough() -> None:
    marks = _points((0, 0, 0.5))
    nodules = {count: _points(*((scan, 0, 8) for scan in range(count))) for count in (2, 3)}
    for count, scans, expected in ((2, 10, False), (3, 10, True), (3, 9, False)):
        values = froc_values(match_marks(marks, nodules[count], _points(), scans))
        assert ("cpm_low" in values) is expected
        assert values["cpm"] == pytest.approx(1 / count)


def test_resamples_without_a_nodule_are_skipped_and_counted() -> None:
    marks = match_marks(_points((0, 0, 0.5)), _points((0, 0, 8)), _points(), 3)
    low, high, skipped = froc_intervals(marks, resamples=1000).cpm
    assert (low, high) == (1.0, 1.0)
    assert skipped == pytest.approx(1000 * (2 / 3) ** 3, abs=60)


def test_no_nodule_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one nodule, got 0 in 4 scans"):
        froc_sensitivities(match_marks(_points((0, 0, 0.5)), _points(), _points(), 4))


def test_the_paired_difference_is_that_of_the_same_draws(tmp_path: Path) -> None:
    tables = _random_tables(tmp_path, scans=24, seed=6, decimals=3)
    marks = tables.matched()
    rng = np.random.default_rng(0)
    lower = np.where(rng.random(len(marks.score)) < 0.3, marks.score - 1, marks.score)
    worse = marks._replace(score=np.where(marks.is_nodule, lower, marks.score))
    difference, interval = froc_difference(marks, worse, resamples=300)
    expected = froc_sensitivities(marks).mean() - froc_sensitivities(worse).mean()
    assert difference == pytest.approx(expected)
    assert interval.low <= difference <= interval.high and difference > 0
    unpaired = froc_intervals(marks, resamples=300).cpm
    assert interval.high - interval.low < unpaired.high - unpaired.low
    assert froc_difference(marks, marks)[1] == (0.0, 0.0, 0)
    with pytest.raises(ValueError, match="the same nodules on both sides, got 24 in 24 scans"):
        froc_difference(marks, worse._replace(nodules=worse.nodules + 1))


@pytest.mark.skipif(not _LUNA16.is_dir(), reason="needs the tables of LUNA16")
def test_on_the_tables_of_luna16_every_nodule_marked_at_its_centre_is_found() -> None:
    series = read_series(_LUNA16 / "seriesuids.csv")
    nodules = read_findings(_LUNA16 / "annotations.csv", series)
    excluded = read_findings(_LUNA16 / "annotations_excluded.csv", series)
    assert (len(series), len(nodules.scan), len(excluded.scan)) == (888, 1186, 35192)
    marks = match_marks(nodules._replace(value=np.ones(1186)), nodules, excluded, 888)
    assert (marks.true, marks.false, marks.missed) == (1186, 0, 0)
    assert froc_sensitivities(marks).tolist() == [1.0] * 7
    on_excluded = match_marks(excluded._replace(value=np.ones(35192)), nodules, excluded, 888)
    assert on_excluded.false == 0 and on_excluded.ignored > 20_000
