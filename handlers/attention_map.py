"""Attention weights as a map with its place in the scan."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.data import MetaTensor

from transforms import feature_affine

ATTENTION_UNIT = "multiple of uniform attention over the part of the scan that the network saw"
SHOWN_FROM = 2.0  # times uniform; attention that is spread evenly has nothing to point at


@dataclass(frozen=True)
class AttentionPeak:
    """Where the attention is highest.

    Attributes:
        ras_mm: centre of the feature cell, ``x, y, z`` (in 2D ``x, y``).
        voxel: the scan's voxel nearest to it.
        value: attention there, as a multiple of uniform.
    """

    ras_mm: tuple[float, ...]
    voxel: tuple[int, ...]
    value: float


def attention_map(scores: torch.Tensor, image: MetaTensor) -> MetaTensor:
    """Softmax of one head's scores, as a multiple of uniform: its mean is 1.

    Args:
        scores: ``(*feature)`` before the softmax.
        image: the network's input ``(C, *spatial)``; only its shape and affine are read.

    Returns:
        Float64 ``(1, *feature)`` with the affine of the feature grid.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    plain = scores.as_tensor() if isinstance(scores, MetaTensor) else scores
    values = plain.detach().cpu().double()
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise ValueError(f"attention scores must be finite, got {wrong} others of {values.numel()}")
    # Double precision: in single, the sum over 800,000 cells is off in the fourth digit.
    attention = values.flatten().softmax(dim=0).reshape(values.shape) * values.numel()
    affine = feature_affine(image.affine.cpu(), image.shape[1:], values.shape)
    return MetaTensor(attention[None], affine)


def attention_peak(attention: MetaTensor, scan: MetaTensor) -> AttentionPeak:
    """The highest cell of an attention map ``(1, *feature)``, placed in a scan ``(C, *spatial)``.

    A peak in padding beyond the scan has its true millimetres and the nearest voxel.
    """
    values = attention.as_tensor()[0]
    rank = values.ndim
    cell = torch.stack(torch.unravel_index(values.argmax(), values.shape))
    ras_mm = _apply(attention.affine, cell, rank)
    to_voxel = torch.linalg.inv(scan.affine.cpu().double())
    voxel = _apply(to_voxel, ras_mm, rank).round().long()
    last = torch.tensor(scan.shape[1:]) - 1
    inside = torch.minimum(voxel.clamp(min=0), last)
    return AttentionPeak(tuple(ras_mm.tolist()), tuple(inside.tolist()), float(values.max()))


def _apply(affine: torch.Tensor, position: torch.Tensor, rank: int) -> torch.Tensor:
    matrix = affine.cpu().double()
    return matrix[:rank, :rank] @ position.double() + matrix[:rank, -1]
