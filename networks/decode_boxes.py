"""From the raw maps of a detector to boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

_MAX_LOG_SIZE = 6.0  # about 400 cells: beyond it, an early step's outlier would overflow


def decode_boxes(
    outputs: Mapping[str, Sequence[torch.Tensor]],
    level_strides: Sequence[Sequence[int]],
    *,
    top_k: int,
    min_score: float,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Boxes of the cells with the highest scores of all levels, before suppression.

    Cells are chosen by their logits first, and only the boxes of those chosen are worked out.
    See :class:`networks.NoduleDetector` for what the maps mean.

    Args:
        outputs: ``logits`` ``(B, 1, *feature)``, ``offsets`` and ``log_sizes``
            ``(B, spatial_dims, *feature)``, each a list over the levels.
        level_strides: input voxels per cell of each level, one number per axis.
        top_k: cells kept per image.
        min_score: 0 to below 1; cells with this probability or less are dropped.

    Returns:
        for each image, ``boxes_voxel`` float32 ``(N, 2 * spatial_dims)``, corners on the input's
        grid where voxel i goes from i to i + 1, and ``scores`` float32 ``(N,)``, falling; of equal
        logits the finer level comes first, then the first cell.

    Raises:
        ValueError: if an argument is out of its range or the maps hold a NaN.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be 1 or more, got {top_k}")
    if not 0 <= min_score < 1:
        raise ValueError(f"min_score must be 0 or more and below 1, got {min_score}")
    if len(outputs["logits"]) != len(level_strides):
        raise ValueError(
            "level_strides must have one entry per level of the outputs, "
            f"got {len(level_strides)} and {len(outputs['logits'])}"
        )
    # log(p / (1 - p)), so that no logit but those kept needs a sigmoid.
    min_logit = -math.inf if min_score == 0 else math.log(min_score / (1 - min_score))
    decoded = []
    for index in range(len(outputs["logits"][0])):
        logits = torch.cat([level[index].detach().flatten().float() for level in outputs["logits"]])
        if logits.max().isnan():  # a NaN is the maximum of whatever holds one
            raise ValueError(f"logits must be numbers, got NaN in image {index} of the batch")
        cells = _best_cells(logits, top_k, min_logit)
        boxes = logits.new_empty((len(cells), 2 * len(level_strides[0])))
        start = 0
        for level, stride in enumerate(level_strides):
            shape = outputs["logits"][level].shape[2:]
            here = ((cells >= start) & (cells < start + shape.numel())).nonzero().squeeze(1)
            boxes[here] = _boxes_of_cells(
                cells[here] - start,
                outputs["offsets"][level][index],
                outputs["log_sizes"][level][index],
                stride,
            )
            start += shape.numel()
        if not boxes.isfinite().all():
            raise ValueError(f"boxes must be finite, got NaN in image {index} of the batch")
        decoded.append((boxes, logits[cells].sigmoid()))
    return decoded


def _best_cells(logits: torch.Tensor, top_k: int, min_logit: float) -> torch.Tensor:
    """Indices of the ``top_k`` highest above ``min_logit``, falling, of equals the first first."""
    indices = (logits > min_logit).nonzero().squeeze(1)
    kept = logits[indices]
    if len(kept) > top_k:
        # torch.topk does not say which of equal logits it takes, so only the bound is its own.
        best = kept >= kept.topk(top_k, sorted=False).values.min()
        indices, kept = indices[best], kept[best]
    return indices[kept.argsort(descending=True, stable=True)[:top_k]]


def _boxes_of_cells(
    cells: torch.Tensor, offsets: torch.Tensor, log_sizes: torch.Tensor, stride: Sequence[int]
) -> torch.Tensor:
    """Corner boxes ``(N, 2 * spatial_dims)`` of flat cell indices into one image's maps."""
    voxels = torch.tensor(stride, device=cells.device)
    position = torch.stack(torch.unravel_index(cells, offsets.shape[1:]), dim=1)
    offset = offsets.detach().flatten(1)[:, cells].T.float()
    log_size = log_sizes.detach().flatten(1)[:, cells].T.float()
    centre = (position + 0.5 + offset) * voxels
    half = log_size.clamp(max=_MAX_LOG_SIZE).exp() * voxels / 2
    return torch.cat([centre - half, centre + half], dim=1)
