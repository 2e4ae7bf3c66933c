"""The patient's left or right half of the body, where no lung can be found."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor

from transforms.coarse_ct import AIR_LIMIT_HU, coarse_ct, on_scan_grid


def body_half_mask(ct: MetaTensor, side: str) -> MetaTensor:
    """The patient's left or right half of the body, or all of it: where no lung can be found.

    Args:
        ct: ``(1, H, W, D)`` in HU with its affine to RAS mm.
        side: ``"left"``, ``"right"`` or ``"both"``; the halves meet at the body's middle.

    Returns:
        uint8 ``(1, H, W, D)`` with the same affine.
    """
    return on_scan_grid(coarse_body_half(ct, side), ct)


def coarse_body_half(ct: MetaTensor, side: str) -> MetaTensor:
    """As :func:`body_half_mask`, uint8 ``(1, h, w, d)`` on the coarse grid of about 4 mm."""
    if side not in ("left", "right", "both"):
        raise ValueError(f"side must be left, right or both, got {side!r}")
    coarse = coarse_ct(ct)
    body = (coarse.hu > AIR_LIMIT_HU) | coarse.enclosed_air
    offset = (np.arange(len(body)) - coarse.midline_voxel)[:, None, None]
    if side != "both":
        body &= (offset < 0) if side == "left" else (offset > 0)
    return coarse.in_scan_axes(body.astype(np.uint8), ct)
