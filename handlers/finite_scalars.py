"""Metrics as numbers that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from metrics.auroc import UNDEFINED_AUROC
from metrics.froc_metric import UNDEFINED_CPM
from metrics.nodule_segmentation import UNDEFINED_DICE

_UNDEFINED = {"auroc": UNDEFINED_AUROC, "cpm": UNDEFINED_CPM, "dice": UNDEFINED_DICE}


def finite_scalars(metrics: Mapping[str, Any]) -> dict[str, float | int | None]:
    """The single numbers among an engine's metrics, ready for JSON.

    NaN, infinity and the stand-ins for an AUROC of one class and for a CPM or Dice of no nodule
    become None: there is no value.
    """
    scalars: dict[str, float | int | None] = {}
    for name, value in metrics.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, (int, float)):
            continue
        undefined = value == _UNDEFINED.get(name.split("_")[0])
        scalars[name] = value if math.isfinite(value) and not undefined else None
    return scalars
