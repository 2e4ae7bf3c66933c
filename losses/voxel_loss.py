"""Every voxel inside a nodule or not, as a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


class VoxelLoss(nn.Module):
    """A loss of logits and of the foreground, which is wherever the instance mask is not 0.

    Outputs are compared in float32 or wider. Patches and whole batches without a nodule train
    too, as far as the inner loss gives them a gradient: MONAI's Dice has one there only in
    proportion to its ``smooth_nr``, the cross entropy always.

    Args:
        loss: of logits and targets of 0 and 1, both ``(B, K, *spatial)`` and floating, to a
            scalar: ``torch.nn.BCEWithLogitsLoss()``, or MONAI's ``DiceCELoss(sigmoid=True)``,
            whose cross entropy is binary for one channel only and else a softmax's.

    Shape:
        outputs: logits ``(B, K, *spatial)``, one channel for each foreground class.
        targets: ``{"mask": (B, K, *spatial) instances, "patient_id": [...]}``.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def terms(self, outputs: torch.Tensor, targets: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The loss as ``loss``, for :class:`metrics.MeanLossTerms`.

        Raises:
            ValueError: logits and mask of different shapes, or a patch whose logits are not finite.
        """
        mask: torch.Tensor = targets["mask"]
        if outputs.shape != mask.shape:
            raise ValueError(
                f"logits must have the shape of the mask, "
                f"got {tuple(outputs.shape)} and {tuple(mask.shape)}"
            )
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        _check_finite(logits, targets["patient_id"])
        return {"loss": self.loss(logits, (mask != 0).to(logits.dtype))}

    def forward(self, outputs: torch.Tensor, targets: Mapping[str, Any]) -> torch.Tensor:
        return self.terms(outputs, targets)["loss"]


def _check_finite(logits: torch.Tensor, patient_ids: Sequence[str]) -> None:
    """Name the patches with a NaN or an infinity: all of them where a batch norm has spread the
    fault of one."""
    worst = logits.detach().abs().flatten(1).amax(dim=1)  # NaN where any is
    if bool(worst.isfinite().all()):
        return
    pairs = zip(worst.isfinite().tolist(), worst.tolist(), patient_ids, strict=True)
    # Each once: a batch may hold several patches of a patient.
    bad = dict.fromkeys(f"{value} for patient {own}" for good, value, own in pairs if not good)
    raise ValueError(f"logits must be finite, got {', '.join(bad)}")
