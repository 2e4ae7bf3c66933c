"""``python -m benchmarks.box_decoding``: a scan's raw maps to its boxes, beside MONAI's way.

The same boxes with the same scores, told by the maps of either network, on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.apps.detection.utils.box_coder import BoxCoder
from monai.apps.detection.utils.box_selector import BoxSelector

from benchmarks.report import Row, interleaved_cpu_s, write_report
from networks import decode_boxes
from networks.box_ops import nms

SCAN_SHAPE = (500, 500, 280)
_LEVEL_STRIDES = ((4, 4, 2), (8, 8, 4), (16, 16, 8))
# Of the model zoo's lung_nodule_ct_detection, in voxels, and the scales of its levels.
_ANCHOR_SHAPES, _ANCHOR_SCALES = ((6, 8, 4), (8, 6, 5), (10, 10, 6)), (1, 2, 4)
_MIN_SCORE, _IOU_THRESHOLD, _TOP_K, _MAX_BOXES = 0.02, 0.22, 1000, 300
_BACKGROUND_LOGIT = -8.0  # mean, with a deviation of 1
_SPOT_REACH = 2  # cells round a spot's own that score too
_NOTES = (
    "CPU seconds of one thread from the raw maps of a scan of {shape} voxels to its boxes, medians "
    "of {rounds} rounds, peer and ours in turns, ours five times a round.",
    "The peer is MONAI's BoxCoder and BoxSelector on the three levels and three anchors a cell of "
    "its lung nodule detector, with that detector's thresholds. Its anchors and its maps are laid "
    "out beforehand, which takes MONAI's detector more time still; ours starts with the maps as "
    "the network leaves them.",
    "The maps are random: {spots} spots, whose {marks} cells score above the threshold of "
    f"{_MIN_SCORE}, on a background that stays below it. Both decode and suppress the same boxes; "
    "that both keep the same {kept}, with the same scores, is checked.",
)


class Scan(NamedTuple):
    """The same boxes as raw maps of either network.

    Attributes:
        ours: what :func:`networks.decode_boxes` takes.
        peer_logits: for each level ``(cells * anchors, 1)``.
        peer_codes: for each level ``(cells * anchors, 6)``, relative to the anchors.
        peer_anchors: for each level corners ``(cells * anchors, 6)``.
        marks: number of cells that score above the threshold.
    """

    ours: Mapping[str, Sequence[torch.Tensor]]
    peer_logits: Sequence[torch.Tensor]
    peer_codes: Sequence[torch.Tensor]
    peer_anchors: Sequence[torch.Tensor]
    marks: int


_Marks = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.box_decoding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often the peer is measured")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {rounds}")
    torch.set_num_threads(1)
    spots = 60
    scan = random_scan(SCAN_SHAPE, spots)
    kept = check_equal(ours(scan), peer(scan, SCAN_SHAPE))
    times = interleaved_cpu_s(
        lambda: ours(scan), lambda: peer(scan, SCAN_SHAPE), rounds=rounds, ours_per_round=5
    )
    shape = " x ".join(map(str, SCAN_SHAPE))
    facts = {"shape": shape, "rounds": rounds, "spots": spots, "marks": scan.marks, "kept": kept}
    write_report(
        "box_decoding",
        [Row(f"top-k, decode, NMS, {shape}", 1000 * times.ours, 1000 * times.peer, "ms")],
        notes=[note.format(**facts) for note in _NOTES],
    )


def ours(scan: Scan) -> _Marks:
    """Boxes and scores, falling."""
    top_k = _TOP_K * len(_LEVEL_STRIDES)  # the peer takes as many of each level
    [(boxes, scores)] = decode_boxes(scan.ours, _LEVEL_STRIDES, top_k=top_k, min_score=_MIN_SCORE)
    kept = nms(boxes, scores, _IOU_THRESHOLD, _MAX_BOXES)
    return boxes[kept], scores[kept]


def peer(scan: Scan, shape: Sequence[int]) -> _Marks:
    """The same as MONAI's detector does it."""
    coder = BoxCoder(weights=(1.0,) * 6)
    selector = BoxSelector(
        score_thresh=_MIN_SCORE,
        topk_candidates_per_level=_TOP_K,
        nms_thresh=_IOU_THRESHOLD,
        detections_per_img=_MAX_BOXES,
    )
    boxes = [
        coder.decode_single(codes, anchors)
        for codes, anchors in zip(scan.peer_codes, scan.peer_anchors, strict=True)
    ]
    selected, scores, _ = selector.select_boxes_per_image(
        boxes, list(scan.peer_logits), list(shape)
    )
    return selected, scores


def check_equal(ours: _Marks, peer: _Marks) -> int:
    """The number of boxes that both keep.

    Raises:
        RuntimeError: they do not keep the same.
    """
    if len(ours[0]) != len(peer[0]):
        raise RuntimeError(f"both must keep as many boxes, got {len(ours[0])} and {len(peer[0])}")
    for mine, other in zip(ours, peer, strict=True):
        if not torch.allclose(mine, other, rtol=1e-4, atol=1e-3):
            raise RuntimeError("both must keep the same boxes and scores, got others")
    return len(ours[0])


def random_scan(shape: Sequence[int], spots: int) -> Scan:
    """Spots of cells that score, each round one box, on a background of noise."""
    generator = torch.Generator().manual_seed(0)
    grids = [
        [-(-size // step) for size, step in zip(shape, strides, strict=True)]
        for strides in _LEVEL_STRIDES
    ]
    cells = [_spot_cells(grid, spots // len(grids), generator) for grid in grids]
    count = sum(map(len, cells))
    # No two alike, so that their order is one for both.
    logits = torch.linspace(-3.5, 3.5, count)[torch.randperm(count, generator=generator)]
    levels = [
        _level(shape, grid, level, picked, picked_logits, generator)
        for level, (grid, picked, picked_logits) in enumerate(
            zip(grids, cells, logits.split([len(picked) for picked in cells]), strict=True)
        )
    ]
    maps, peer_logits, peer_codes, peer_anchors = zip(*levels, strict=True)
    ours = {
        name: [level[index] for level in maps]
        for index, name in enumerate(("logits", "offsets", "log_sizes"))
    }
    marks = sum(int((level.sigmoid() > _MIN_SCORE).sum()) for level in ours["logits"])
    return Scan(ours, peer_logits, peer_codes, peer_anchors, marks)


def _spot_cells(grid: Sequence[int], spots: int, generator: torch.Generator) -> torch.Tensor:
    """Places ``(M, 3)`` of the cells within reach of the spots, each once."""
    inner = torch.tensor(grid) - 2 * _SPOT_REACH
    own = _SPOT_REACH + (torch.rand(spots, 3, generator=generator) * inner).long()
    steps = torch.arange(-_SPOT_REACH, _SPOT_REACH + 1)
    ball = torch.cartesian_prod(steps, steps, steps)
    ball = ball[ball.square().sum(1) <= _SPOT_REACH**2]
    return (own[:, None] + ball).flatten(0, 1).unique(dim=0)


def _level(
    shape: Sequence[int],
    grid: Sequence[int],
    level: int,
    cells: torch.Tensor,
    logits: torch.Tensor,
    generator: torch.Generator,
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Our three maps, and the peer's logits, codes and anchors, of one level."""
    stride = torch.tensor(_LEVEL_STRIDES[level])
    offset = 0.3 * torch.randn(len(cells), 3, generator=generator)
    log_size = 0.5 + 0.2 * torch.randn(len(cells), 3, generator=generator)
    centre, size = (cells + 0.5 + offset) * stride, log_size.exp() * stride
    extent = torch.tensor(shape)
    inside = ((centre - size / 2 >= 0) & (centre + size / 2 <= extent)).all(1)
    # The peer cuts boxes at the border. Those that cross it do not take part.
    logits = logits.where(inside, logits.new_tensor(_BACKGROUND_LOGIT))

    flat = (cells * torch.tensor([grid[1] * grid[2], grid[2], 1])).sum(1)
    count = torch.Size(grid).numel()
    maps = (
        _background((1, count), generator),
        torch.randn(3, count, generator=generator),
        0.3 * torch.randn(3, count, generator=generator),
    )
    for values, own in zip(maps, (logits[None], offset.T, log_size.T), strict=True):
        values[:, flat] = own

    anchors = _anchors(grid, level)
    rows = flat * len(_ANCHOR_SHAPES) + torch.randint(
        len(_ANCHOR_SHAPES), flat.shape, generator=generator
    )
    codes = 0.3 * torch.randn(len(anchors), 6, generator=generator)
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    codes[rows] = BoxCoder(weights=(1.0,) * 6).encode_single(corners, anchors[rows])
    peer_logits = _background((len(anchors), 1), generator)
    peer_logits[rows, 0] = logits
    return tuple(values.view(1, -1, *grid) for values in maps), peer_logits, codes, anchors


def _background(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    logits = _BACKGROUND_LOGIT + torch.randn(shape, generator=generator)
    return logits.clamp_(max=-4.5)  # a probability of 0.011


def _anchors(grid: Sequence[int], level: int) -> torch.Tensor:
    """Corners ``(cells * anchors, 6)``."""
    generator = AnchorGeneratorWithAnchorShape(_ANCHOR_SCALES, _ANCHOR_SHAPES)
    strides = [torch.tensor(step) for step in _LEVEL_STRIDES[level]]
    generator.cell_anchors = generator.cell_anchors[level : level + 1]
    anchors: torch.Tensor = generator.grid_anchors([list(grid)], [strides])[0]
    return anchors


if __name__ == "__main__":
    main()
