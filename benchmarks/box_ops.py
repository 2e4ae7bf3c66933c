"""``python -m benchmarks.box_ops``: IoU and NMS beside MONAI's, on one core."""

from __future__ import annotations

import resource
from functools import partial

import psutil
import torch
from monai.data import box_utils

from benchmarks.report import Row, interleaved_cpu_s, write_report
from networks.box_ops import box_iou, nms

_EXTENT = (500.0, 500.0, 280.0)
_NOTES = (
    "Times are medians of CPU seconds of one thread, peer and ours in turns: one call of the peer, "
    "one of our box_iou or 20 of our nms.",
    "Random boxes: centres uniform in 500 x 500 x 280, sizes uniform from 4 to 40 on each axis; "
    "clustered: ten boxes jittered round each of so many centres. No two scores are alike.",
    "Every pair of results is checked to be equal.",
)


def main() -> None:
    torch.set_num_threads(1)
    rows = [_memory_row(), _iou_row()]
    for iou_threshold in (0.1, 0.22, 0.5):
        rows.append(_nms_row("random", 3_000, iou_threshold, max_boxes=300))
    for iou_threshold in (0.1, 0.22, 0.5):
        rows.append(_nms_row("random", 10_000, iou_threshold, max_boxes=-1))
    rows.append(_nms_row("clustered", 3_000, 0.22, max_boxes=300))
    rows.append(_nms_row("clustered", 10_000, 0.22, max_boxes=-1))
    write_report("box_ops", rows, notes=_NOTES)


def _random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 3, generator=generator) * torch.tensor(_EXTENT)
    size = 4 + 36 * torch.rand(count, 3, generator=generator)
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _clustered_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    boxes = _random_boxes(count // 10, seed).repeat_interleave(10, dim=0)
    size = (boxes[:, 3:] - boxes[:, :3]) * torch.exp(
        0.2 * torch.randn(count, 3, generator=generator)
    )
    centre = (boxes[:, 3:] + boxes[:, :3]) / 2 + 0.2 * size * torch.randn(
        count, 3, generator=generator
    )
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _nms_row(kind: str, count: int, iou_threshold: float, *, max_boxes: int) -> Row:
    boxes = _random_boxes(count, 0) if kind == "random" else _clustered_boxes(count, 0)
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(1)) / count
    ours = partial(nms, boxes, scores, iou_threshold, max_boxes)
    peer = partial(box_utils.non_max_suppression, boxes, scores, iou_threshold, max_boxes)
    kept = ours()
    if not torch.equal(kept, torch.as_tensor(peer())):
        raise RuntimeError(f"nms must keep the boxes that MONAI keeps, got others for {kind} boxes")
    rounds = 9 if max_boxes > 0 else 3
    times = interleaved_cpu_s(ours, peer, rounds=rounds, ours_per_round=20)
    limit = f"keep {max_boxes}" if max_boxes > 0 else f"all {len(kept)} kept"
    what = f"nms, {count} {kind} boxes, {limit}, IoU {iou_threshold}"
    return Row(what, 1000 * times.ours, 1000 * times.peer, "ms")


def _iou_row() -> Row:
    a, b = _random_boxes(10_000, 0), _random_boxes(1_000, 1)
    ours, peer = partial(box_iou, a, b), partial(box_utils.box_iou, a, b)
    if not torch.equal(ours(), torch.as_tensor(peer())):
        raise RuntimeError("box_iou must be that of MONAI, got other values")
    times = interleaved_cpu_s(ours, peer, rounds=5)
    return Row("box_iou, 10000 x 1000", 1000 * times.ours, 1000 * times.peer, "ms")


def _memory_row() -> Row:
    """First of all, ours before the peer: the peak of a process only ever grows."""
    a, b = _random_boxes(10_000, 0), _random_boxes(1_000, 1)
    result_bytes = 4 * len(a) * len(b)
    peaks = []
    for iou in (box_iou, box_utils.box_iou):
        iou(a[:10], b[:10])
        before = psutil.Process().memory_info().rss
        iou(a, b)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        peaks.append((peak - before) / result_bytes)
    ours, peer = peaks
    return Row("box_iou, 10000 x 1000, peak memory", ours, peer, "x the result's own")


if __name__ == "__main__":
    main()
