"""The results of a detector's evaluation as files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.engine import Engine, Events

from handlers.detected_scan import DetectedScan, detected_scans
from handlers.detection_rows import COLUMNS, detection_rows
from handlers.evaluation_folder import EvaluationFolder
from handlers.finite_scalars import finite_scalars
from handlers.froc_picture import froc_picture
from handlers.judged_nodule import BestMark, JudgedNodule, judged_nodules
from handlers.luna16_tables import series_names, write_luna16_tables
from handlers.write_table import write_table
from metrics import (
    SIZE_CLASSES,
    MatchedMarks,
    froc_values,
    marks_and_nodules,
    match_marks,
    matched_scans,
    rate_thresholds,
)
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN
from metrics.froc_values import SENSITIVITIES
from metrics.match_marks import rows_of

if TYPE_CHECKING:
    from cohorts import ReadableScans

NODULE_COLUMNS = (
    "patient_id",
    "seriesuid",
    "coordX",
    "coordY",
    "coordZ",
    "diameter_mm",
    "size_class",
    "nodules_in_scan",
    "lost",
    *BestMark._fields,
)


class DetectionEvaluation:
    """Writes what a detector's evaluation found.

    - ``evaluation.json``: the engine's metrics, such as those of :class:`metrics.Froc`, counts of
      marks (:class:`metrics.MatchedMarks`), the same sensitivities by size of nodule and by number
      of nodules in the scan, with marks on the other nodules ignored, and the thresholds that keep
      within LUNA16's rates
    - ``per_scan.csv``: of each scan the number of nodules, found nodules and false marks at the
      threshold of 1 false mark a scan (``found_at_1``, ``false_at_1``), ``mean_found``, the nodules
      found averaged over the seven thresholds, ``found`` by any mark and ``found_iou``, the sum
      of their boxes' IoU; nodules and ``mean_found`` also by size
    - ``nodules.csv``: of each nodule the fields of :class:`handlers.judged_nodule.BestMark`
    - ``marks.csv``, ``annotations.csv``, ``excluded.csv`` and ``seriesuids.csv`` for
      ``python -m metrics.froc``: :func:`handlers.luna16_tables.write_luna16_tables`
    - ``froc.png``, where there is a nodule

    Sums of ``mean_found`` over those of ``nodules`` are the CPM less what LUNA16 reads off
    between two scores. ``nodules`` counts those that the crop lost, which are missed. A diameter
    is the mean of a box's sides. Run ``finish`` after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans, where they come from a ``ReadableScans``: those that failed are
            listed, and its items have place and size of nodules that a crop lost.
        datalist: the datalist JSON; its name and whether it is synthetic stand with the numbers.
        checkpoint: path of the weights, for the record.

    Raises:
        ValueError: when the evaluator starts, if ``output_dir`` cannot be written; in an iteration,
            if the network gave NaN or infinity.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans | None = None,
        *,
        datalist: str | Path | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.folder = EvaluationFolder(
            output_dir, dataset, datalist=datalist, checkpoint=checkpoint
        )
        self._items = [] if dataset is None else dataset.items
        self._scans: list[DetectedScan] = []

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``, whose own metrics are computed before."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def finish(self) -> None:
        """Ends the program with a non-zero code if a scan failed.

        Raises:
            SystemExit: a scan failed.
        """
        self.folder.finish(len(self._scans))

    def _start(self, _engine: Engine) -> None:
        self.folder.start()
        self._scans = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._scans += detected_scans(output, self._items)

    def _write(self, engine: Engine) -> None:
        scans = self._scans = self.folder.gather(self._scans)
        if not self.folder.is_written_here:
            return
        matched = matched_scans([scan.marked for scan in scans])
        nodules = judged_nodules(scans, matched)
        by_size = {
            size: self._part([nodule.size_class == size for nodule in nodules])
            for size in SIZE_CLASSES
        }
        by_number = {
            "one": self._part([nodule.nodules_in_scan == 1 for nodule in nodules]),
            "several": self._part([nodule.nodules_in_scan > 1 for nodule in nodules]),
        }
        self.folder.write(
            {
                "scans": len(scans),
                "nodules": len(nodules),
                "lost_boxes": sum(nodule.is_lost for nodule in nodules),
                "marks": sum(len(scan.marked.scores) for scan in scans),
                "counts": {
                    name: getattr(matched, name) for name in ("true", "false", "double", "missed")
                },
                "metrics": finite_scalars(engine.state.metrics),
                "by_size": {name: _numbers(part) for name, part in by_size.items()},
                "by_nodules_in_scan": {name: _numbers(part) for name, part in by_number.items()},
                "operating_points": _operating_points(matched),
            }
        )
        self.folder.write_scans(COLUMNS, detection_rows(scans, nodules, matched))
        write_table(self.folder.path / "nodules.csv", NODULE_COLUMNS, _nodule_rows(scans, nodules))
        write_luna16_tables(self.folder.path, scans, nodules)
        self._draw(matched, by_size)

    def _part(self, kept: Sequence[bool]) -> MatchedMarks:
        """Marks matched with a part of the nodules, those on the others ignored."""
        marks, nodules = marks_and_nodules([scan.marked for scan in self._scans])
        is_kept = np.array(kept, dtype=bool)
        part, others = rows_of(nodules, is_kept), rows_of(nodules, ~is_kept)
        return match_marks(marks, part, others, len(self._scans))

    def _draw(self, matched: MatchedMarks, by_size: Mapping[str, MatchedMarks]) -> None:
        path = self.folder.path / "froc.png"
        path.unlink(missing_ok=True)  # of an earlier evaluation
        if not matched.nodules.any():
            return
        froc_picture(
            matched,
            {name.replace("_", " "): part for name, part in by_size.items()},
            path=path,
            title=f"FROC of {self.folder.scans_in_words(len(self._scans))}",
        )


def _numbers(part: MatchedMarks) -> dict[str, Any]:
    nodules = int(part.nodules.sum())
    if not nodules:
        return {"nodules": 0, **dict.fromkeys(("cpm", *SENSITIVITIES))}
    return {"nodules": nodules, **froc_values(part)}


def _operating_points(matched: MatchedMarks) -> list[dict[str, Any]]:
    """What passes the thresholds that keep within LUNA16's rates; None if no score does."""
    points = []
    for rate, threshold in zip(
        FALSE_POSITIVES_PER_SCAN, rate_thresholds(matched).tolist(), strict=True
    ):
        passes = matched.score >= threshold
        found = int((passes & matched.is_nodule).sum())
        points.append(
            {
                "rate": rate,
                "threshold": threshold if math.isfinite(threshold) else None,
                "false_marks_per_scan": (int(passes.sum()) - found) / max(1, len(matched.nodules)),
                "found": found,
            }
        )
    return points


def _nodule_rows(
    scans: Sequence[DetectedScan], nodules: Iterable[JudgedNodule]
) -> Iterable[tuple[Any, ...]]:
    patients = [scan.patient_id for scan in scans]
    series = series_names(patients)
    for nodule in nodules:
        yield (
            patients[nodule.scan],
            series[nodule.scan],
            *(nodule.centre_lps_mm or (None, None, None)),
            nodule.diameter_mm,
            nodule.size_class,
            nodule.nodules_in_scan,
            "yes" if nodule.is_lost else "no",
            *(nodule.mark or (None,) * len(BestMark._fields)),
        )
