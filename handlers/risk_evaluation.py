"""The results of a risk network's evaluation as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from handlers.applied_calibration import applied_calibration
from handlers.calibration_report import (
    calibration_metrics,
    represents_the_cohort,
    screening_report,
)
from handlers.evaluation_folder import EvaluationFolder
from handlers.finite_scalars import finite_scalars
from handlers.reliability_picture import reliability_picture
from handlers.scan_rows import COLUMNS, scan_rows, weighted_rows
from metrics.calibration_error import BINS
from networks.risk_calibration import RiskCalibration

if TYPE_CHECKING:
    from cohorts import ReadableScans


class RiskEvaluation:
    """Writes ``evaluation.json``, ``per_scan.csv`` and ``reliability.png`` of a risk network.

    To the engine's metrics come Brier score and ECE and, with a calibration, the same of the
    calibrated risk, sensitivity and specificity at its threshold, and a screening table.

    Columns of ``per_scan.csv``, empty where there is no value: ``risk`` is the label,
    ``predicted_risk`` the sigmoid of the network's logit and ``calibrated_risk`` that after
    calibration, all of the last year; ``risk_year_1`` and on are a yearly network's risks,
    calibrated if there is a calibration. ``weight`` makes up, in the numbers named above, for the
    scans whose label is not known; it is 1 without years. Localization is that of
    :class:`metrics.ScanLocalization`. ``lost_boxes`` are cancers outside of the part that the
    network saw; they are missing from the localization numbers, and their sum stands beside these.
    Run ``finish`` after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans, where they come from a ``ReadableScans``: those that failed are
            listed.
        datalist: the datalist JSON; its name and whether it is synthetic stand with the numbers.
        checkpoint: path of the weights, for the record.
        head: the attention head compared with the boxes.
        calibration: a ``calibration.json``; where there is no such file, or with None, the risk
            stays uncalibrated.
        screening_prevalence: share of cancers that the screening table is also given for.

    Raises:
        ValueError: ``screening_prevalence`` is outside of its range; when the evaluator starts,
            if ``output_dir`` cannot be written, or if the calibration is of other weights or was
            fitted on a patient of the scans.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans | None = None,
        *,
        datalist: str | Path | None = None,
        checkpoint: str | Path | None = None,
        head: int = 0,
        calibration: str | Path | None = None,
        screening_prevalence: float | None = None,
    ) -> None:
        if screening_prevalence is not None and not 0 <= screening_prevalence <= 1:
            raise ValueError(
                f"screening_prevalence must be from 0 to 1, got {screening_prevalence}"
            )
        self.folder = EvaluationFolder(
            output_dir, dataset, datalist=datalist, checkpoint=checkpoint
        )
        self.head = head
        self.calibration = calibration
        self.screening_prevalence = screening_prevalence
        self._calibration: RiskCalibration | None = None
        self._rows: list[dict[str, Any]] = []

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
        self.folder.finish(len(self._rows))

    def _start(self, _engine: Engine) -> None:
        self.folder.start()
        self._rows = []
        self._calibration = applied_calibration(self.calibration, self.folder.checkpoint)
        dataset = self.folder.dataset
        if dataset is not None:
            self._check_patients([str(item["patient_id"]) for item in dataset.items])

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        outputs, targets = output["pred"], output["label"]
        if self.folder.dataset is None:
            self._check_patients(targets["patient_id"])
        self._rows += scan_rows(outputs, targets, head=self.head, calibration=self._calibration)

    def _check_patients(self, patient_ids: Sequence[str]) -> None:
        calibration = self._calibration
        both = [
            patient for patient in patient_ids if calibration and calibration.fitted_on(patient)
        ]
        if both:
            raise ValueError(
                "a calibration must be fitted on other patients than it is judged on, "
                f"got {both[0]} in {self.calibration} and in the evaluated scans"
            )

    def _write(self, engine: Engine) -> None:
        calibration = self._calibration
        self._rows = weighted_rows(self.folder.gather(self._rows))
        if not self.folder.is_written_here:
            return
        known = [row for row in self._rows if row["risk"] is not None]
        metrics = {**engine.state.metrics, **calibration_metrics(known, calibration)}
        self.folder.write(
            {
                "calibrated": calibration is not None,
                "calibration": calibration and calibration.description(),
                "scans": len(self._rows),
                "known_scans": len(known),
                "positives": sum(row["risk"] for row in known),
                "lost_boxes": sum(row["lost_boxes"] for row in self._rows),
                "attention_head": self.head,
                "ece_bins": BINS,
                "metrics": finite_scalars(metrics),
                "screening": screening_report(known, calibration, self.screening_prevalence),
            }
        )
        self.folder.write_scans(list(self._rows[0]) if self._rows else COLUMNS, self._rows)
        self._draw(known)

    def _draw(self, rows: list[dict[str, Any]]) -> None:
        path = self.folder.path / "reliability.png"
        path.unlink(missing_ok=True)  # of an earlier evaluation
        if not represents_the_cohort(rows):
            return
        risks = {"uncalibrated": [row["predicted_risk"] for row in rows]}
        if self._calibration is not None:
            risks["calibrated"] = [row["calibrated_risk"] for row in rows]
        scans = self.folder.scans_in_words(len(rows))
        labels = [row["risk"] for row in rows]
        title = f"Predicted risk of {scans}, {sum(labels)} with cancer"
        weights = [row["weight"] for row in rows]
        reliability_picture(risks, labels, weights, path=path, title=title)
