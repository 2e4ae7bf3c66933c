"""The calibration of a run, once it is known to be of the weights in use."""

from __future__ import annotations

from pathlib import Path

from handlers.describe_checkpoint import describe_checkpoint
from networks.risk_calibration import RiskCalibration, read_calibration


def applied_calibration(
    path: str | Path | None, checkpoint: str | Path | None
) -> RiskCalibration | None:
    """Reads the calibration that belongs to a checkpoint; None where there is no such file.

    Args:
        path: the ``calibration.json``, or None to go without.
        checkpoint: the weights in use; None leaves unchecked whether they are the calibration's.

    Raises:
        ValueError: the file is no calibration, or one of other weights.
    """
    calibration, weights = read_calibration(path), describe_checkpoint(checkpoint)
    if calibration and weights and calibration.checkpoint_sha256 != weights["sha256"]:
        raise ValueError(
            f"{path}: a calibration must be of the weights it is applied to, got {checkpoint}; "
            "calibration null goes without"
        )
    return calibration
