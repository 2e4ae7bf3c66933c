"""Boxes found, placed and sized in one loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from monai.data.box_utils import box_pair_giou
from monai.losses import FocalLoss
from torch import nn

from losses.atss_match import atss_match


class DetectionLoss(nn.Module):
    """``L_p + L_centre + L_size + lambda_giou * L_giou`` of a detector's raw outputs.

    Each cell of each level says whether it holds a box, and only the cells that
    :func:`losses.atss_match` gives to a box say where its centre lies, in strides from the cell's,
    and how large it is, as the logarithm of strides. All terms are sums over the batch, divided
    by its number of positive cells or, where that is more, of samples: batches without any box
    train too.

    Args:
        level_strides: voxels that a cell covers along every axis, for each level.
        classification: a loss of ``(B, 1, cells)`` logits and targets of 0 and 1 that keeps their
            shape; MONAI's focal loss (arXiv:1708.02002) with gamma 2 and alpha 0.25 if None.
        regression: a loss that keeps the shape of its inputs; L1 if None.
        lambda_giou: weight of one minus the generalised IoU (arXiv:1902.09630), 0 or more.
        anchor_scale: width in strides of the boxes that the matching compares with.
        candidates: cells of each level that a box may claim.
        over_ranks: whether positive cells and samples are counted over all ranks, so that the mean
            over them is the loss of their batches together; all must then call it as often.

    Shape:
        outputs: over levels, fine to coarse, ``{"logits": [(B, 1, *cells)],
        "offsets": [(B, spatial_dims, *cells)], "log_sizes": [(B, spatial_dims, *cells)]}``.
        targets: ``{"boxes_voxel": (B, max_boxes, 2 * spatial_dims), "box_count": (B,),
        "patient_id": [...]}``, corners on the input's grid in which voxel i covers [i, i + 1).
    """

    def __init__(
        self,
        level_strides: Sequence[Sequence[int]],
        *,
        classification: nn.Module | None = None,
        regression: nn.Module | None = None,
        lambda_giou: float = 0.0,
        anchor_scale: float = 2.0,
        candidates: int = 9,
        over_ranks: bool = False,
    ) -> None:
        super().__init__()
        # Written so that a NaN fails too.
        if not lambda_giou >= 0:
            raise ValueError(f"lambda_giou must be 0 or more, got {lambda_giou}")
        if not (anchor_scale > 0 and candidates >= 1):
            raise ValueError(
                f"anchor_scale must be above 0 and candidates at least 1, "
                f"got {anchor_scale} and {candidates}"
            )
        self.level_strides = [tuple(stride) for stride in level_strides]
        self.classification = classification or FocalLoss(gamma=2.0, alpha=0.25, reduction="none")
        self.regression = regression or nn.L1Loss(reduction="none")
        self.lambda_giou = lambda_giou
        self.anchor_scale = anchor_scale
        self.candidates = candidates
        self.over_ranks = over_ranks

    def terms(
        self, outputs: Mapping[str, Sequence[torch.Tensor]], targets: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """``box_p_loss``, ``centre_loss``, ``size_loss`` and, where it has a weight, ``giou_loss``
        before their weights, their weighted sum as ``loss``, and the mean number of
        ``positive_cells`` of a sample.

        Raises:
            ValueError: another number of levels than of strides, or a sample's loss not finite.
        """
        logits, offsets, log_sizes = (
            _all_cells(outputs[name]) for name in ("logits", "offsets", "log_sizes")
        )
        samples = len(logits)
        positives = self._positives(outputs["logits"], targets)
        where = (positives.sample, slice(None), positives.cell)
        is_box = torch.zeros_like(logits)
        is_box[where] = 1
        low, high = positives.box.chunk(2, dim=1)
        offset = ((low + high) / 2 - positives.centre) / positives.stride
        log_size = ((high - low) / positives.stride).log()
        entries = {
            "centre_loss": self.regression(offsets[where], offset).mean(dim=1),
            "size_loss": self.regression(log_sizes[where], log_size).mean(dim=1),
        }
        sums = {"box_p_loss": self.classification(logits, is_box).flatten(1).sum(dim=1)}
        for name, values in entries.items():
            sums[name] = _by_sample(values, positives, samples)
        _check_finite(sums, targets["patient_id"])
        if self.lambda_giou > 0:
            giou_loss = _giou_loss(offsets[where], log_sizes[where], positives)
            sums["giou_loss"] = _by_sample(giou_loss, positives, samples)
            _check_finite(sums, targets["patient_id"])

        divisor = self._mean_over_ranks(logits, len(positives.cell), samples).amax()
        terms = {name: by_sample.sum() / divisor for name, by_sample in sums.items()}
        loss = terms["box_p_loss"] + terms["centre_loss"] + terms["size_loss"]
        if self.lambda_giou > 0:
            loss = loss + self.lambda_giou * terms["giou_loss"]
        positive_cells = loss.new_tensor(len(positives.cell) / samples)
        return {"loss": loss, **terms, "positive_cells": positive_cells}

    def forward(
        self, outputs: Mapping[str, Sequence[torch.Tensor]], targets: Mapping[str, Any]
    ) -> torch.Tensor:
        return self.terms(outputs, targets)["loss"]

    def _mean_over_ranks(self, like: torch.Tensor, *counts: int) -> torch.Tensor:
        means = like.new_tensor(counts)
        if self.over_ranks and dist.is_initialized():
            dist.all_reduce(means)
            means /= dist.get_world_size()
        return means

    def _positives(self, logits: Sequence[torch.Tensor], targets: Mapping[str, Any]) -> _Positives:
        if len(logits) != len(self.level_strides):
            raise ValueError(
                f"outputs must have as many levels as level_strides, "
                f"got {len(logits)} and {len(self.level_strides)}"
            )
        shapes = [level.shape[2:] for level in logits]
        tables = targets["boxes_voxel"].to("cpu", torch.float64)
        samples = []
        for index, count in enumerate(targets["box_count"].tolist()):
            boxes = tables[index, :count]
            matches = atss_match(
                boxes,
                shapes,
                self.level_strides,
                anchor_scale=self.anchor_scale,
                candidates=self.candidates,
            )
            sample = torch.full_like(matches.cell, index)
            box = boxes[matches.box]
            samples.append(
                _Positives(sample, matches.cell, box, matches.centre_voxel, matches.stride_voxel)
            )
        sample, cell, *places = (torch.cat(column) for column in zip(*samples, strict=True))
        wide = torch.promote_types(logits[0].dtype, torch.float32)
        device = logits[0].device
        return _Positives(
            sample.to(device), cell.to(device), *(place.to(device, wide) for place in places)
        )


class _Positives(NamedTuple):
    """The positive cells of a batch: sample and cell ``(P,)``, and in voxels the box's corners
    ``(P, 2 * spatial_dims)`` and the cell's centre and stride ``(P, spatial_dims)``."""

    sample: torch.Tensor
    cell: torch.Tensor
    box: torch.Tensor
    centre: torch.Tensor
    stride: torch.Tensor


def _all_cells(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """``(B, C, cells of all levels)``, float32 or wider."""
    cells = torch.cat([level.flatten(2) for level in levels], dim=2)
    return cells.to(torch.promote_types(cells.dtype, torch.float32))


def _by_sample(values: torch.Tensor, positives: _Positives, samples: int) -> torch.Tensor:
    """Sums ``(B,)`` of a value of each positive cell ``(P,)``."""
    return values.new_zeros(samples).index_add(0, positives.sample, values)


def _giou_loss(
    offsets: torch.Tensor, log_sizes: torch.Tensor, positives: _Positives
) -> torch.Tensor:
    """``(P,)``, NaN for a box without bounds, about which MONAI would not say whose it is."""
    centre = positives.centre + offsets * positives.stride
    half = log_sizes.exp() * positives.stride / 2
    boxes = torch.cat((centre - half, centre + half), dim=1)
    if not bool(boxes.isfinite().all()):
        return torch.where(boxes.isfinite().all(dim=1), 0, torch.nan)
    giou: torch.Tensor = box_pair_giou(boxes, positives.box)  # type: ignore[assignment]
    return 1 - giou


def _check_finite(sums: Mapping[str, torch.Tensor], patient_ids: Sequence[str]) -> None:
    """Name the samples of which a term is not finite: all of them where a batch norm has spread
    the fault of one. ``sums`` are ``(B,)``."""
    if bool(torch.stack(list(sums.values())).isfinite().all()):
        return
    for name, by_sample in sums.items():
        pairs = zip(by_sample.tolist(), patient_ids, strict=True)
        # Each once: a batch may hold several patches of a patient.
        bad = dict.fromkeys(f"{v} for patient {own}" for v, own in pairs if not math.isfinite(v))
        if bad:
            raise ValueError(f"{name} must be finite, got {', '.join(bad)}")
