"""How well the nodules of an epoch are segmented."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.epoch_values import WarnOnce, replace_values
from metrics.gather_ranks import gather_scans
from metrics.segmentation_values import NODULE_VALUES, SCAN_VALUES, segmentation_values
from metrics.segmented_scan import SegmentedScan, segmented_scan
from networks.logits_to_scan import logits_to_scan

logger = logging.getLogger(__name__)

UNDEFINED_DICE = -1.0


class NoduleSegmentation(Metric):
    """The values of :func:`metrics.segmentation_values` over the scans of an epoch and all ranks.

    The logits are brought to the true mask's grid, where :func:`metrics.segmented_scan` judges
    them. ``dice``, the mean over nodules, is written to ``engine.state.metrics`` under the attached
    name, the others under their own. Without a nodule in any scan one warning says so, the value
    is -1, as of :class:`metrics.Froc`, and what is said of nodules is left out. Only numbers are
    kept of a scan.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["logits"]`` ``(B, 1, *image)``, ``outputs["affine"]`` of that grid,
            ``targets["mask"]`` ``(B, 1, *scan)`` of instance labels, ``targets["mask_affine"]``
            ``(B, ...)`` and ``targets["patient_id"]``.

    Attributes:
        scans: what this rank has judged since the epoch's start.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self.scans: list[SegmentedScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        """Judge the scans of a batch.

        Raises:
            ValueError: more than one class, logits that are not finite, or a mask that
                :func:`metrics.segmented_scan` refuses.
        """
        outputs, targets = output
        rows = zip(
            outputs["logits"],
            targets["mask"],
            targets["mask_affine"],
            targets["patient_id"],
            strict=True,
        )
        for logits, truth, affine, patient in rows:
            if len(logits) != 1:
                raise ValueError(f"logits must be of one class, nodule, got {len(logits)}")
            self.scans.append(_judged(logits, outputs["affine"], truth[0], affine, str(patient)))

    def compute(self) -> dict[str, float]:
        """``dice`` and the other values, with their intervals."""
        scans = gather_scans(self.scans)
        values = segmentation_values(scans)
        if "dice" not in values:
            self._warn(
                f"the Dice of nodules needs a nodule, got none in {len(scans)} scans: "
                f"it is reported as {UNDEFINED_DICE:g}"
            )
            values["dice"] = UNDEFINED_DICE
        return values

    def completed(self, engine: Engine, name: str) -> None:
        # A key metric must stand under the name it was attached with, whatever that is.
        named = {"dice": name, "dice_low": f"{name}_low", "dice_high": f"{name}_high"}
        values = {named.get(key, key): value for key, value in self.compute().items()}
        others = [key for key in (*NODULE_VALUES, *SCAN_VALUES) if key != "dice"]
        replace_values(engine, [name, *others], values)


def _judged(
    logits: torch.Tensor,
    image_affine: torch.Tensor,
    truth: torch.Tensor,
    affine: torch.Tensor,
    patient: str,
) -> SegmentedScan:
    try:
        mask = logits_to_scan(logits, image_affine, scan_affine=affine, scan_shape=truth.shape)
    except ValueError as error:
        raise ValueError(f"{patient}: {error}") from error
    return segmented_scan(
        truth.numpy(force=True),
        mask[0].numpy(),
        affine.numpy(force=True),
        patient_id=patient,
    )
