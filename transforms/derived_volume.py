"""Volumes computed from another one."""

from __future__ import annotations

import torch
from monai.data import MetaTensor


def derived_volume(values: torch.Tensor, affine: torch.Tensor, source: MetaTensor) -> MetaTensor:
    """A volume computed from another: its own values and affine, and the source's file name."""
    kept = {key: source.meta[key] for key in ("filename_or_obj",) if key in source.meta}
    return MetaTensor(values, affine.detach().clone(), kept)
