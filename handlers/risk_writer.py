"""The results of an inference as files."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from cohorts.replaced_file import replaced_file
from handlers.applied_calibration import applied_calibration
from handlers.attention_map import ATTENTION_UNIT, SHOWN_FROM, attention_map, attention_peak
from handlers.describe_checkpoint import describe_checkpoint
from handlers.exit_on_failures import exit_on_failures
from handlers.risk_numbers import risk_numbers
from handlers.save_map import save_map
from handlers.three_planes import INTENDED_USE, LUNG_WINDOW_HU, three_planes
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json
from networks.risk_calibration import RiskCalibration
from transforms import attention_to_scan

if TYPE_CHECKING:
    from cohorts import ReadableScans

logger = logging.getLogger(__name__)

UNCALIBRATED = "a score for research, not the probability of cancer of a person; not calibrated"
CALIBRATED = (
    "a score for research, not the probability of cancer of a person; calibrated to the share of "
    "cancers among the scans that the calibration was fitted on"
)
SCAN_SUFFIX = re.compile(r"\.(nii|nii\.gz|mhd|mha|dcm)$", re.IGNORECASE)


def scan_report(
    logits: torch.Tensor,
    scores: torch.Tensor,
    image: MetaTensor,
    *,
    scan: MetaTensor,
    name: str,
    folder: Path,
    window: tuple[float, float] = LUNG_WINDOW_HU,
    calibration: RiskCalibration | None = None,
) -> dict[str, Any]:
    """Writes the attention map and picture of one scan, and returns its numbers.

    Args:
        logits: ``(Y,)``, the risk of each year before the sigmoid.
        scores: ``(*feature)``, one head's attention before the softmax.
        image: the network's input ``(C, *spatial)`` with its affine.
        scan: the whole scan ``(1, *spatial)`` on its own grid.
        name: what the files' names begin with.
        folder: where they go.
        window: values that the picture shows black and white.
        calibration: of the risk.

    Raises:
        ValueError: the network gave NaN or infinity.
        OSError: a file cannot be written.
    """
    numbers = risk_numbers(logits, calibration)
    attention = attention_map(scores, image)
    peak = attention_peak(attention, scan)
    on_scan = attention_to_scan(attention, scan)
    files = {"attention": f"{name}_attention.nii.gz", "overlay": f"{name}_overlay.png"}
    save_map(on_scan, folder / files["attention"])
    with replaced_file(folder / files["overlay"]) as partial:
        kind = "risk" if calibration else "uncalibrated risk"
        title = f"{name}   {kind} {numbers['risk']:.3f}"
        three_planes(
            scan,
            peak.voxel,
            partial,
            overlay=on_scan,
            overlay_from=SHOWN_FROM,
            title=title,
            window=window,
        )
    return {
        **numbers,
        **files,
        "peak_ras_mm": [round(value, 3) for value in peak.ras_mm],
        "peak_voxel": list(peak.voxel),
        "peak_attention": peak.value,
    }


class RiskWriter:
    """Writes risk, attention map and picture of each scan that an evaluator predicts.

    In ``output_dir``, ``predictions.json`` names for each scan its risk, calibrated where there is
    a calibration, and its files, and for each that failed why; it is rewritten after every scan,
    so that an interrupted run keeps what it has. The evaluator takes batches of one,
    ``decollate: false``, that hold the network's input ``image``, the whole ``scan`` on its own
    grid, and ``source``, the path as it was given. Run ``finish`` after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans; keeps the failures.
        bundle: name of the bundle, for the record.
        checkpoint: path of the weights, for the record.
        head: the attention head shown.
        window: values that the pictures show black and white.
        calibration: a ``calibration.json``; where there is no such file, or with None, the risk
            stays uncalibrated.

    Raises:
        ValueError: when the evaluator starts, if ``output_dir`` cannot be written, or if the
            calibration is of other weights.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans,
        *,
        bundle: str,
        checkpoint: str | Path | None = None,
        head: int = 0,
        window: tuple[float, float] = LUNG_WINDOW_HU,
        calibration: str | Path | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.bundle = bundle
        self.checkpoint = checkpoint
        self.head = head
        self.window = window
        self.calibration = calibration
        self._calibration: RiskCalibration | None = None
        self._scans: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._header: dict[str, Any] = {}
        self._asked_at = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_scan)

    def predict(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any] | None:
        """The evaluator's own iteration, guarded: give it as its ``iteration_update``.

        A scan on which the network fails, for want of memory say, is written down as failed.
        """
        try:
            return engine._iteration(engine, batch)
        except Exception as error:
            self.dataset.record_failure(batch["source"][0], error)
            return None

    def finish(self) -> None:
        """Writes the last failures, and ends the program with a non-zero code if there are any.

        Raises:
            SystemExit: a scan failed, or ``predictions.json`` could not be written.
        """
        try:
            self._write_predictions()
        except OSError as error:
            raise SystemExit(f"{self._report}: must be writable, got {error.strerror}") from error
        failures = self.dataset.failures
        exit_on_failures(failures, len(self._scans) + len(failures), self._report)

    @property
    def _report(self) -> Path:
        return self.output_dir / "predictions.json"

    def _start(self, _engine: Engine) -> None:
        writable_folder(self.output_dir)
        self._scans, self._names = [], set()
        calibration = self._calibration = applied_calibration(self.calibration, self.checkpoint)
        self._header = {
            "bundle": self.bundle,
            "checkpoint": describe_checkpoint(self.checkpoint),
            "intended_use": INTENDED_USE,
            "calibrated": calibration is not None,
            "calibration": calibration and calibration.description(),
            "risk_meaning": UNCALIBRATED if calibration is None else CALIBRATED,
            "attention_unit": ATTENTION_UNIT,
            "attention_head": self.head,
        }
        self._write_predictions()

    def _start_clock(self, _engine: Engine) -> None:
        self._asked_at = time.monotonic()

    def _write_scan(self, engine: Engine) -> None:
        state: Any = engine.state
        batch, output = state.batch, state.output
        if output is None:
            return
        source = str(batch["source"][0])
        try:
            report = scan_report(
                output["pred"]["logits"][0],
                output["pred"]["scores"][0, self.head],
                batch["image"][0],
                scan=batch["scan"][0],
                name=self._name(source),
                folder=self.output_dir,
                window=self.window,
                calibration=self._calibration,
            )
            seconds = round(time.monotonic() - self._asked_at, 2)
            self._scans.append({"scan": source, **report, "seconds": seconds})
        except Exception as error:  # a full disk, say: the other scans are still processed
            self.dataset.record_failure(source, error)
        try:
            self._write_predictions()
        except OSError as error:  # finish() tries once more
            logger.error("%s: must be writable, got %s", self._report, error.strerror)

    def _name(self, source: str) -> str:
        """The scan's name without suffix; a second scan of that name gets a number."""
        stem = SCAN_SUFFIX.sub("", os.path.basename(os.path.abspath(source))) or "scan"
        number, name = 1, stem
        while name.lower() in self._names:  # some file systems take no notice of case
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.lower())
        return name

    def _write_predictions(self) -> None:
        failed = self.dataset.failures
        write_json(self._report, {**self._header, "scans": self._scans, "failed": failed})
