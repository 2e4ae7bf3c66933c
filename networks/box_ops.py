"""Overlap of boxes, and suppression of those that a better box covers.

Boxes are corners ``(N, 2 * spatial_dims)``, low corner first, as ``monai.data.box_utils`` has them
(``xyxy`` or ``xyzxyz``); overlaps are computed in float32, as there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from networks.box_grid import EPSILON, BoxGrid, FloatArray, IntArray

_TILE_ELEMENTS = 65_536  # float32 temporaries of this size stay in a core's cache
_FIRST_BLOCK, _LATER_BLOCK = 1024, 4096  # boxes resolved at once, which bounds memory
_SPARSE = 32  # candidates per box, up to which it is fastest to resolve all boxes at once


def box_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union ``(N, M)`` of boxes ``(N, 2 * spatial_dims)`` and ``(M, ...)``.

    Same values as ``monai.data.box_utils.box_iou``, in ``a``'s dtype (float32 if that is an
    integer), without its ``(N, M, spatial_dims)`` temporaries and without a gradient.

    Raises:
        ValueError: another shape, a reversed box, a NaN or an infinity.
    """
    corners_a, corners_b = _corners(a, "a"), _corners(b, "b")
    if len(corners_a) != len(corners_b):
        raise ValueError(f"a and b must have as many columns, got {a.shape[1]} and {b.shape[1]}")
    low_a, high_a = corners_a.chunk(2)
    low_b, high_b = corners_b.chunk(2)
    area_a, area_b = (high_a - low_a).prod(0)[:, None], (high_b - low_b).prod(0)
    shape = (a.shape[0], b.shape[0])
    iou = torch.empty(shape, dtype=a.dtype if a.is_floating_point() else None, device=a.device)
    rows = max(1, _TILE_ELEMENTS // max(1, shape[1]))
    scratch = torch.empty((3, min(rows, shape[0]), shape[1]), device=a.device)
    for start in range(0, shape[0], rows):
        tile = slice(start, start + rows)
        inter, width, other = scratch[:, : min(rows, shape[0] - start)]
        inter.fill_(1)
        for axis in range(len(low_a)):
            torch.minimum(high_a[axis, tile, None], high_b[axis], out=width)
            torch.maximum(low_a[axis, tile, None], low_b[axis], out=other)
            inter *= width.sub_(other).clamp_(min=0)
        torch.add(area_a[tile], area_b, out=other)
        torch.div(inter, other.sub_(inter).add_(EPSILON), out=inter)
        iou[tile] = inter
    return iou


def nms(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_boxes: int | None = None
) -> torch.Tensor:
    """Non-maximum suppression: int64 indices of the boxes kept, by falling score.

    A box goes if its intersection over union with a kept box of higher score is above
    ``iou_threshold``; of equal scores the first comes first. Keeps the boxes that
    ``monai.data.box_utils.non_max_suppression`` keeps. Runs on the CPU, on one core; the indices
    come back on the device of ``boxes``.

    Args:
        boxes: ``(N, 4)`` or ``(N, 6)`` corners.
        scores: ``(N,)``.
        iou_threshold: 0 to 1.
        max_boxes: stop after so many; None, or -1 as in MONAI, for all.

    Raises:
        ValueError: another shape, a reversed box, a NaN, or an argument outside its range.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie between 0 and 1, got {iou_threshold}")
    if max_boxes is not None and max_boxes != -1 and max_boxes < 1:
        raise ValueError(f"max_boxes must be 1 or more, or -1 for no limit, got {max_boxes}")
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"scores must have shape (N,) for boxes of shape (N, columns), "
            f"got {tuple(scores.shape)} and {tuple(boxes.shape)}"
        )
    corners = _corners(boxes, "boxes").cpu().numpy()
    limit = boxes.shape[0] if max_boxes in (None, -1) else max_boxes
    kept = _suppress(corners, _falling(scores), iou_threshold, limit)
    return torch.from_numpy(kept).to(boxes.device)


def _corners(boxes: torch.Tensor, name: str) -> torch.Tensor:
    """Corners, checked, as float32 ``(2 * spatial_dims, N)``."""
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6):
        raise ValueError(f"{name} must have shape (N, 4) or (N, 6), got {tuple(boxes.shape)}")
    corners = boxes.detach().float().T.contiguous()
    low, high = corners.chunk(2)
    size = high - low
    if size.numel() and not (size.amin() >= 0 and size.amax() < torch.inf):
        row = int((~((size >= 0) & (size < torch.inf))).any(0).nonzero()[0])
        raise ValueError(
            f"{name} must be finite and go from low to high corners, "
            f"got {boxes[row].tolist()} in row {row}"
        )
    return corners


def _falling(scores: torch.Tensor) -> IntArray:
    """Indices by falling score; a stable sort, which costs more, only where there are ties."""
    values = scores.detach().cpu()
    exact = values if values.dtype in (torch.float32, torch.float64) else values.double()
    negative = -exact.numpy()
    order = np.argsort(negative)
    ordered = negative[order]
    if np.isnan(ordered[-1:]).any():
        raise ValueError(f"scores must not be NaN, got NaN in row {order[-1]}")
    if (ordered[1:] == ordered[:-1]).any():
        order = np.argsort(negative, kind="stable")
    return order


def _suppress(corners: FloatArray, order: IntArray, iou_threshold: float, limit: int) -> IntArray:
    """The first ``limit`` of ``order`` that no kept box suppresses.

    Resolves a block of the highest scores, drops what its survivors suppress from the rest, goes
    on with that. Where boxes crowd, a small first block leaves little of the rest.
    """
    kept: list[IntArray] = []
    missing, size = limit, _FIRST_BLOCK
    while missing > 0 and len(order):
        wanted = order[: missing + missing // 4 + 16]
        head, grid = _block(corners, wanted, size, iou_threshold)
        keep = _survivors(len(head), *grid.overlapping_pairs())
        kept.append(head[keep][:missing])
        missing -= len(kept[-1])
        order = order[len(head) :]
        if missing > 0 and len(order):
            both = np.concatenate((kept[-1], order))
            cross = BoxGrid(corners.take(both, axis=1), iou_threshold, queries=len(kept[-1]))
            stays = np.ones(len(both), dtype=bool)
            stays[cross.overlapping_pairs()[1]] = False
            order = both[stays][len(kept[-1]) :]
        size = _LATER_BLOCK
    return np.concatenate(kept) if kept else np.empty(0, dtype=np.intp)


def _block(
    corners: FloatArray, wanted: IntArray, size: int, iou_threshold: float
) -> tuple[IntArray, BoxGrid]:
    """The first ``size`` of the wanted boxes, or all of them where they are sparse."""
    head = wanted[:size]
    grid = BoxGrid(corners.take(head, axis=1), iou_threshold)
    growth = len(wanted) / len(head)
    if growth > 1 and grid.candidates * growth <= _SPARSE * len(head):
        whole = BoxGrid(corners.take(wanted, axis=1), iou_threshold)
        if whole.candidates <= 2 * _SPARSE * len(wanted):
            return wanted, whole
    return head, grid


def _survivors(count: int, better: IntArray, worse: IntArray) -> npt.NDArray[np.bool_]:
    """Greedy suppression of boxes ranked 0 to ``count``, all at once.

    ``better[k]`` and ``worse[k]`` are ranks of one overlapping pair. Each round settles every box
    of which no better overlapping box is left; the rounds are as many as the longest chain.
    """
    keep = np.ones(count, dtype=bool)
    while len(better):
        waits = np.zeros(count, dtype=bool)
        waits[worse] = True
        keep[worse[~waits[better]]] = False
        open_pairs = np.flatnonzero(keep[better] & keep[worse])
        better, worse = better[open_pairs], worse[open_pairs]
    return keep
