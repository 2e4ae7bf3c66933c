"""What an inference writes of one scan's risk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from cohorts.replaced_file import replaced_file
from handlers.applied_calibration import applied_calibration
from handlers.attention_map import ATTENTION_UNIT, SHOWN_FROM, attention_map, attention_peak
from handlers.risk_numbers import risk_numbers
from handlers.save_map import save_map
from handlers.scan_report import ScanResult, ScanTable
from handlers.three_planes import LUNG_WINDOW_HU, three_planes
from networks.risk_calibration import RiskCalibration
from transforms import attention_to_scan

UNCALIBRATED = "a score for research, not the probability of cancer of a person; not calibrated"
CALIBRATED = (
    "a score for research, not the probability of cancer of a person; calibrated to the share of "
    "cancers among the scans that the calibration was fitted on"
)


class RiskReport:
    """Risk, attention map and picture of each scan, for a :class:`handlers.ScanWriter`.

    The risk is calibrated where there is a calibration. ``<name>_attention.nii.gz`` is the
    attention on the scan's own grid, ``<name>_overlay.png`` three planes through its peak.

    Args:
        checkpoint: path of the weights, which must be those of the calibration.
        calibration: a ``calibration.json``; where there is no such file, or with None, the risk
            stays uncalibrated.
        head: the attention head shown.
        window: values that the pictures show black and white.

    Raises of a run's start:
        ValueError: the calibration is of other weights.

    Raises of a call:
        ValueError: the network gave NaN or infinity.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        *,
        checkpoint: str | Path | None = None,
        calibration: str | Path | None = None,
        head: int = 0,
        window: tuple[float, float] = LUNG_WINDOW_HU,
    ) -> None:
        self.checkpoint = checkpoint
        self.calibration = calibration
        self.head = head
        self.window = window
        self.table: ScanTable | None = None
        self._calibration: RiskCalibration | None = None

    def start(self, _about: Mapping[str, Any]) -> dict[str, Any]:
        """Reads the calibration; returns what the risks and the attention mean."""
        calibration = self._calibration = applied_calibration(self.calibration, self.checkpoint)
        return {
            "calibrated": calibration is not None,
            "calibration": calibration and calibration.description(),
            "risk_meaning": UNCALIBRATED if calibration is None else CALIBRATED,
            "attention_unit": ATTENTION_UNIT,
            "attention_head": self.head,
        }

    def __call__(
        self,
        prediction: Mapping[str, Any],
        *,
        image: MetaTensor,
        scan: MetaTensor,
        name: str,
        folder: Path,
    ) -> ScanResult:
        """Writes attention map and picture of one scan, and returns its numbers.

        ``prediction`` holds ``logits`` ``(1, Y)``, each year's risk before the sigmoid, and
        ``scores`` ``(1, heads, *feature)``, the attention before the softmax.
        """
        numbers = risk_numbers(prediction["logits"][0], self._calibration)
        attention = attention_map(prediction["scores"][0, self.head], image)
        peak = attention_peak(attention, scan)
        on_scan = attention_to_scan(attention, scan)
        files = {"attention": f"{name}_attention.nii.gz", "overlay": f"{name}_overlay.png"}
        save_map(on_scan, folder / files["attention"])
        with replaced_file(folder / files["overlay"]) as partial:
            kind = "risk" if self._calibration else "uncalibrated risk"
            three_planes(
                scan,
                peak.voxel,
                partial,
                overlay=on_scan,
                overlay_from=SHOWN_FROM,
                title=f"{name}   {kind} {numbers['risk']:.3f}",
                window=self.window,
            )
        place = {
            "peak_ras_mm": [round(value, 3) for value in peak.ras_mm],
            "peak_voxel": list(peak.voxel),
            "peak_attention": peak.value,
        }
        return ScanResult({**numbers, **files, **place}, list(files.values()), [])
