"""The calibration of the weights that a training keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from cohorts import read_datalist
from handlers.describe_checkpoint import describe_checkpoint
from handlers.write_json import write_json
from metrics import (
    NoCalibrationError,
    censoring_weights,
    gather_scans,
    platt_scaling,
    sensitivity_threshold,
)
from metrics.bootstrap_interval import FloatArray
from networks.risk_calibration import RiskCalibration, patient_sha256

logger = logging.getLogger(__name__)


class _Scan(NamedTuple):
    """What the fit needs of a scan; ``follow_up`` is years and event, empty without years."""

    patient_id: str
    logits: list[float]
    labels: list[float]
    known: list[float]
    follow_up: list[float]


class RiskCalibrator:
    """Writes ``calibration.json`` for ``model.pt``, fitted on the validation scans.

    Whenever the evaluator names its epoch the best, and :class:`handlers.TrainingCheckpoints` so
    writes ``model.pt``, the logits of that epoch give the calibration; the file holds the weights'
    SHA-256. With yearly logits each known year has its :func:`metrics.censoring_weights`. Where the
    scans allow no calibration, one warning says why and an older file is removed. List it
    with the trainer's handlers, behind ``TrainingCheckpoints``.

    Args:
        run_dir: folder of ``model.pt``.
        evaluator: the validation engine, with ``decollate: false``; its targets hold ``risk``,
            ``risk_known`` and ``patient_id``, with years also ``event_years`` and ``event``.
        target_sensitivity: at the operating point, above 0 and at most 1.
        datalist: the datalist JSON that the scans are of; its name is kept.

    Raises:
        ValueError: ``target_sensitivity`` is outside of its range.
        FileNotFoundError: at a best epoch, if ``model.pt`` has not been written.
    """

    def __init__(
        self,
        run_dir: str | Path,
        evaluator: Evaluator,
        *,
        target_sensitivity: float,
        datalist: str | Path,
    ) -> None:
        if not 0 < target_sensitivity <= 1:
            raise ValueError(
                f"target_sensitivity must be above 0 and at most 1, got {target_sensitivity}"
            )
        self.run_dir = Path(run_dir)
        self.evaluator = evaluator
        self.target_sensitivity = target_sensitivity
        self.datalist = datalist
        self._scans: list[_Scan] = []
        self._reason = ""

    def attach(self, _engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, self._begin)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._write_best)

    def _begin(self) -> None:
        self._scans = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        targets = output["label"]
        logits, risk = output["pred"]["logits"], targets["risk"]
        follow_up = risk[:, :0]
        if "event" in targets:
            follow_up = torch.cat([targets["event_years"], targets["event"]], dim=1)
        columns = [
            column.detach().double().tolist()
            for column in (logits, risk, targets["risk_known"], follow_up)
        ]
        self._scans.extend(_Scan(*row) for row in zip(targets["patient_id"], *columns, strict=True))

    def _write_best(self, engine: Evaluator) -> None:
        if engine.state.best_metric_epoch != engine.state.epoch:
            return
        scans = gather_scans(self._scans)
        if idist.get_rank() == 0:
            self._write(scans)

    def _write(self, scans: list[_Scan]) -> None:
        path = self.run_dir / "calibration.json"
        try:
            calibration = self._fitted(scans)
        except NoCalibrationError as error:
            path.unlink(missing_ok=True)
            if str(error) != self._reason:  # once, not in every epoch
                logger.warning("The risk stays uncalibrated: %s", error)
            self._reason = str(error)
            return
        write_json(path, asdict(calibration))

    def _fitted(self, scans: list[_Scan]) -> RiskCalibration:
        logits, labels = (np.array([scan[place] for scan in scans]) for place in (1, 2))
        weights = _weights(scans)
        scaling = platt_scaling(logits, labels, weights)
        used, judged = weights.any(axis=1), weights[:, -1] > 0
        label = labels[judged, -1]
        patients = {patient_sha256(scans[row].patient_id) for row in np.flatnonzero(used)}
        checkpoint = describe_checkpoint(self.run_dir / "model.pt") or {}
        without_threshold = RiskCalibration(
            slope=scaling.slope,
            intercept=scaling.intercept,
            threshold=0.0,
            target_sensitivity=self.target_sensitivity,
            split="validation",
            datalist=read_datalist(self.datalist).get("name"),
            scans=int(used.sum()),
            positives=int(label.sum()),
            checkpoint_sha256=checkpoint["sha256"],
            patients_sha256=tuple(sorted(patients)),
        )
        risk = without_threshold.risk(torch.from_numpy(logits[judged, -1])).numpy()
        threshold = sensitivity_threshold(
            risk, label, weights[judged, -1], target_sensitivity=self.target_sensitivity
        )
        return replace(without_threshold, threshold=threshold)


def _weights(scans: Sequence[_Scan]) -> FloatArray:
    """How much each year's label of each scan counts, ``(scans, years)``, 0 where unknown."""
    known = np.array([scan.known for scan in scans])
    if not scans[0].follow_up:
        return known
    event_years, event = np.array([scan.follow_up for scan in scans]).T
    years = range(1, known.shape[1] + 1)
    columns = [censoring_weights(event_years, event, year=year) for year in years]
    return known * np.stack(columns, axis=1)
