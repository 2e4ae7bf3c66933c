"""Whether a nodule was found, by which mark, and how many false marks that costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from handlers.detected_scan import DetectedScan
from metrics import MarkedScan, MatchedMarks, best_marks, marks_and_nodules, size_class
from networks.box_ops import box_iou


class BestMark(NamedTuple):
    """Of the marks that hit a nodule, the one of the highest score.

    Attributes:
        score: of the mark.
        distance_mm: from its centre to the nodule's.
        iou: of its box and the nodule's.
        false_marks_per_scan: in all scans, at the threshold that just lets the mark pass.
    """

    score: float
    distance_mm: float
    iou: float
    false_marks_per_scan: float


class JudgedNodule(NamedTuple):
    """A nodule, and the mark that found it.

    Attributes:
        scan: index of its scan.
        centre_lps_mm: three numbers, or None where its place is not known.
        diameter_mm: mean of its box's sides, or None.
        size_class: one of ``metrics.SIZE_CLASSES``, or None.
        nodules_in_scan: how many its scan has, itself included.
        is_lost: whether a crop left it out of what the network saw.
        mark: None where it was missed.
    """

    scan: int
    centre_lps_mm: tuple[float, float, float] | None
    diameter_mm: float | None
    size_class: str | None
    nodules_in_scan: int
    is_lost: bool
    mark: BestMark | None


def judged_nodules(scans: Sequence[DetectedScan], matched: MatchedMarks) -> list[JudgedNodule]:
    """All nodules of a cohort, in the order of :func:`metrics.marks_and_nodules`.

    Args:
        scans: of the cohort.
        matched: their marks.
    """
    marks, nodules = marks_and_nodules([scan.marked for scan in scans])
    best = iter(best_marks(marks, nodules, len(scans)).tolist())
    first_mark = np.searchsorted(marks.scan, np.arange(len(scans))).tolist()
    false_scores = np.sort(matched.score[~matched.is_nodule])
    judged: list[JudgedNodule] = []
    for index, scan in enumerate(scans):
        count = len(scan.diameters_mm)
        for row, diameter_mm in enumerate(scan.diameters_mm.tolist()):
            mark, best_mark = next(best), None
            if mark >= 0:
                score, distance_mm, iou = _hit(scan.marked, mark - first_mark[index], row)
                passing = len(false_scores) - int(np.searchsorted(false_scores, score))
                best_mark = BestMark(score, distance_mm, iou, passing / len(scans))
            x, y, z = scan.nodules_lps_mm[row].tolist()
            is_known = not math.isnan(diameter_mm)
            judged.append(
                JudgedNodule(
                    scan=index,
                    centre_lps_mm=(x, y, z) if is_known else None,
                    diameter_mm=diameter_mm if is_known else None,
                    size_class=size_class(diameter_mm) if is_known else None,
                    nodules_in_scan=count,
                    is_lost=row >= count - scan.marked.lost,
                    mark=best_mark,
                )
            )
    return judged


def _hit(scan: MarkedScan, mark: int, nodule: int) -> tuple[float, float, float]:
    """Score, mm between the centres and IoU."""
    box, true_box = torch.tensor(np.stack((scan.boxes_mm[mark], scan.nodules_mm[nodule])))
    between = (box - true_box).reshape(2, -1).mean(dim=0)
    iou = box_iou(box[None], true_box[None])
    return float(scan.scores[mark]), float(between.norm()), float(iou)
