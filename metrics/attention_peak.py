"""Where the attention peaks: how far from the lesion, and in which lung."""

from __future__ import annotations

import torch


def peak_mean(scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` over the cells that tie for the peak of each scan, float32 ``(B,)``.

    Args:
        scores: ``(B, *feature)`` of one head, before the softmax over the feature cells.
        values: ``(B, *feature)``.

    Raises:
        ValueError: shapes differ, or scores without a peak (NaN).
    """
    if scores.shape != values.shape or scores.ndim < 2:
        raise ValueError(
            "scores and values must both be (B, *feature), "
            f"got {tuple(scores.shape)} and {tuple(values.shape)}"
        )
    cell_scores = scores.as_subclass(torch.Tensor).detach().flatten(1)
    cell_values = values.as_subclass(torch.Tensor).to(cell_scores.device).float().flatten(1)
    peak = cell_scores == cell_scores.amax(dim=1, keepdim=True)
    cells = peak.sum(dim=1)
    if not cells.all():
        raise ValueError(f"scores must have a peak, got NaN in scan {int(cells.argmin())}")
    # Not a product: a value elsewhere may be infinite.
    return cell_values.where(peak, 0).sum(dim=1) / cells


def peak_distance(scores: torch.Tensor, box_distance_mm: torch.Tensor) -> torch.Tensor:
    """Millimetres from the centre of the peak cell to the nearest lesion's box, float32 ``(B,)``.

    Args:
        scores: ``(B, *feature)`` of one head, before the softmax over the feature cells.
        box_distance_mm: ``(B, *feature)``, of each cell's centre, 0 inside of a box; infinite in
            a scan without one.

    Returns:
        0 where the peak lies in a box, the mean distance of cells that tie for the peak, and NaN
        for a scan without a box.

    Raises:
        ValueError: shapes differ, or scores without a peak (NaN).
    """
    distance_mm = peak_mean(scores, box_distance_mm)
    return distance_mm.where(distance_mm.isfinite(), torch.nan)


def attention_side(scores: torch.Tensor, side_mask: torch.Tensor) -> torch.Tensor:
    """1 where the peak lies in the lung that carries the cancer, else 0, float32 ``(B,)``.

    It tells left from right only where the mask is of one lung: leave out the scans whose side is
    neither (both, unknown, none).

    Args:
        scores: ``(B, *feature)`` of one head, before the softmax over the feature cells.
        side_mask: ``(B, *feature)``, a cell above 0 belongs to that lung.

    Returns:
        The share of the cells that tie for the peak; NaN where the mask is empty.

    Raises:
        ValueError: shapes differ, or scores without a peak (NaN).
    """
    hit = peak_mean(scores, side_mask > 0)
    present = (side_mask > 0).flatten(1).any(dim=1).to(hit.device)
    return hit.where(present, torch.nan)
