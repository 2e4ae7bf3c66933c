"""Which marks of a detector hit a nodule, as LUNA16 counts it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.luna16_csv import FloatArray, IntArray, ScanPoints

MAX_MARKS_PER_SCAN = 100
UNKNOWN_DIAMETER_MM = 10.0  # of a finding whose diameter is given as negative


class MatchedMarks(NamedTuple):
    """What is left of a submission for the FROC curve: found nodules and false marks.

    Attributes:
        scan: ``(E,)`` the scan of each found nodule and false mark, from 0.
        score: ``(E,)`` of the false mark, or the best of the marks that found the nodule.
        is_nodule: ``(E,)`` true for a found nodule.
        nodules: ``(scans,)`` number of nodules in each scan, found or missed.
        ignored: number of marks on excluded findings.
        double: number of hits of a nodule beyond its first.
    """

    scan: IntArray
    score: FloatArray
    is_nodule: npt.NDArray[np.bool_]
    nodules: IntArray
    ignored: int
    double: int

    @property
    def true(self) -> int:
        """Number of nodules found."""
        return int(self.is_nodule.sum())

    @property
    def false(self) -> int:
        """Number of marks that hit nothing."""
        return len(self.is_nodule) - self.true

    @property
    def missed(self) -> int:
        """Number of nodules that no mark hit."""
        return int(self.nodules.sum()) - self.true


def match_marks(
    marks: ScanPoints, nodules: ScanPoints, excluded: ScanPoints, scan_count: int
) -> MatchedMarks:
    """Match marks with findings by the rules of LUNA16 (Setio et al. 2017, arXiv:1612.08012).

    A mark hits a finding if its distance from the centre is strictly under the radius (5 mm where
    the diameter is negative). Of more than 100 marks in a scan, only those that score above the
    101st count. A nodule has the best score of its marks; a mark may hit several nodules. Marks on
    excluded findings that hit no nodule are ignored.

    To judge a part of the nodules, give the others as excluded: marks on them are not held against
    it.
    """
    marks = rows_of(marks, _counted(marks))
    hit_mark, hit_nodule = _hits(marks, nodules, scan_count)
    hits = np.bincount(hit_nodule, minlength=len(nodules.scan))
    found = hits > 0
    best = np.full(len(nodules.scan), -np.inf)
    np.maximum.at(best, hit_nodule, marks.value[hit_mark])

    on_nodule = np.zeros(len(marks.scan), dtype=bool)
    on_nodule[hit_mark] = True
    on_excluded = np.zeros(len(marks.scan), dtype=bool)
    on_excluded[_hits(marks, excluded, scan_count)[0]] = True
    false = ~on_nodule & ~on_excluded
    return MatchedMarks(
        scan=np.concatenate((nodules.scan[found], marks.scan[false])),
        score=np.concatenate((best[found], marks.value[false])),
        is_nodule=np.arange(found.sum() + false.sum()) < found.sum(),
        nodules=np.bincount(nodules.scan, minlength=scan_count),
        ignored=int((on_excluded & ~on_nodule).sum()),
        double=int((hits[found] - 1).sum()),
    )


def best_marks(marks: ScanPoints, nodules: ScanPoints, scan_count: int) -> IntArray:
    """For each nodule the row of ``marks`` that found it, -1 where none did.

    That is the highest score of the marks that hit it, by the rules of :func:`match_marks`; of
    equal scores the first.
    """
    counted = _counted(marks)
    hit_mark, hit_nodule = _hits(rows_of(marks, counted), nodules, scan_count)
    best = np.full(len(nodules.scan), len(counted))
    np.minimum.at(best, hit_nodule, hit_mark)  # a scan's marks are sorted by falling score
    return np.append(counted, -1)[best]


def rows_of(points: ScanPoints, rows: IntArray | npt.NDArray[np.bool_]) -> ScanPoints:
    """The points of these rows, or of those that a mask keeps."""
    return ScanPoints(points.scan[rows], points.centre_mm[rows], points.value[rows])


def _counted(marks: ScanPoints) -> IntArray:
    """Rows sorted by scan and falling score, without those beyond the limit of a scan."""
    order = np.lexsort((-marks.value, marks.scan))
    scan, score = marks.scan[order], marks.value[order]
    first_of_scan = np.searchsorted(scan, scan)
    count = np.searchsorted(scan, scan, side="right") - first_of_scan
    beyond = np.minimum(first_of_scan + MAX_MARKS_PER_SCAN, len(scan) - 1)
    return order[(count <= MAX_MARKS_PER_SCAN) | (score > score[beyond])]


def _hits(marks: ScanPoints, findings: ScanPoints, scan_count: int) -> tuple[IntArray, IntArray]:
    """Mark and finding of each hit; ``marks`` are sorted by scan."""
    order = np.argsort(findings.scan, kind="stable")
    mark_bounds = np.searchsorted(marks.scan, np.arange(scan_count + 1))
    finding_bounds = np.searchsorted(findings.scan[order], np.arange(scan_count + 1))
    diameter_mm = np.where(findings.value < 0, UNKNOWN_DIAMETER_MM, findings.value)
    squared_radius_mm2 = (diameter_mm / 2) ** 2
    hit_marks, hit_findings = [order[:0]], [order[:0]]
    both = np.flatnonzero((np.diff(mark_bounds) > 0) & (np.diff(finding_bounds) > 0))
    for scan in both:
        first = mark_bounds[scan]
        here = order[finding_bounds[scan] : finding_bounds[scan + 1]]
        centres_mm = marks.centre_mm[first : mark_bounds[scan + 1], None]
        x, y, z = np.moveaxis((findings.centre_mm[here] - centres_mm) ** 2, -1, 0)
        mark, finding = np.nonzero(x + y + z < squared_radius_mm2[here])
        hit_marks.append(mark + first)
        hit_findings.append(here[finding])
    return np.concatenate(hit_marks), np.concatenate(hit_findings)
