"""The results of a segmenter's evaluation as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from handlers.evaluation_folder import EvaluationFolder
from handlers.finite_scalars import finite_scalars
from handlers.segmentation_picture import segmentation_picture
from handlers.segmentation_rows import (
    NODULE_COLUMNS,
    SCAN_COLUMNS,
    segmented_nodule_rows,
    segmented_scan_rows,
)
from handlers.write_table import write_table
from metrics import SIZE_CLASSES, NoduleSegmentation, SegmentedNodule, SegmentedScan, nodule_values
from metrics.segmentation_values import NODULE_VALUES, cohort_nodules

if TYPE_CHECKING:
    from cohorts import ReadableScans


class SegmentationEvaluation:
    """Writes what a segmenter's evaluation found.

    - ``evaluation.json``: the engine's metrics, such as those of `NoduleSegmentation`, counts, and
      :func:`metrics.nodule_values` by size of nodule
    - ``per_scan.csv``: of each scan its counts and volumes, the ``dice`` of its whole mask and
      ``summed_dice``, the sum over its nodules, which over the sum of ``nodules`` is the mean, and
      ``summed_dice_found`` over the found ones; nodules, found ones and ``summed_dice`` also by
      size
    - ``nodules.csv``: of each true nodule the fields of :class:`metrics.SegmentedNodule`
    - ``nodules.png``, where there is a nodule: Dice against diameter, and predicted against true
      volume

    A diameter is that of the sphere with the nodule's volume, in 2D of the circle with its area.
    Run ``finish`` after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans, where they come from a ``ReadableScans``: those that failed are listed.
        segmentation: the metric that judges the scans, attached to the same evaluator.
        datalist: the datalist JSON; its name and whether it is synthetic stand with the numbers.
        checkpoint: path of the weights, for the record.

    Raises:
        ValueError: when the evaluator starts, if ``output_dir`` cannot be written.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans | None = None,
        *,
        segmentation: NoduleSegmentation,
        datalist: str | Path | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.folder = EvaluationFolder(
            output_dir, dataset, datalist=datalist, checkpoint=checkpoint
        )
        self.segmentation = segmentation
        self._scans = 0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``, whose own metrics are computed before."""
        engine.add_event_handler(Events.STARTED, self.folder.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def finish(self) -> None:
        """Ends the program with a non-zero code if a scan failed.

        Raises:
            SystemExit: a scan failed.
        """
        self.folder.finish(self._scans)

    def _write(self, engine: Engine) -> None:
        scans = self.folder.gather(self.segmentation.scans)
        self._scans = len(scans)
        if not self.folder.is_written_here:
            return
        nodules = cohort_nodules(scans)
        self.folder.write(
            {
                "scans": len(scans),
                "nodules": len(nodules),
                "found": sum(nodule.found for _, nodule in nodules),
                "components": sum(scan.components for scan in scans),
                "false_components": sum(scan.false_components for scan in scans),
                "metrics": finite_scalars(engine.state.metrics),
                "by_size": {size: _of_size(nodules, size) for size in SIZE_CLASSES},
            }
        )
        self.folder.write_scans(SCAN_COLUMNS, segmented_scan_rows(scans))
        write_table(self.folder.path / "nodules.csv", NODULE_COLUMNS, segmented_nodule_rows(scans))
        self._draw(scans, [nodule for _, nodule in nodules])

    def _draw(self, scans: Sequence[SegmentedScan], nodules: Sequence[SegmentedNodule]) -> None:
        path = self.folder.path / "nodules.png"
        path.unlink(missing_ok=True)  # of an earlier evaluation
        if nodules:
            words = self.folder.scans_in_words(len(scans))
            segmentation_picture(nodules, path=path, title=f"Nodules of {words}")


def _of_size(nodules: Sequence[tuple[str, SegmentedNodule]], size: str) -> dict[str, Any]:
    own = [(patient, nodule) for patient, nodule in nodules if nodule.size_class == size]
    found = sum(nodule.found for _, nodule in own)
    return {
        "nodules": len(own),
        "found": found,
        **dict.fromkeys(NODULE_VALUES),
        **nodule_values(own),
    }
