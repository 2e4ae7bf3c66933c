"""Detection in a whole scan, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.inferers.inferer import Inferer
from monai.utils.type_conversion import convert_to_tensor

from networks.box_ops import nms
from networks.cut_tile import cut_tile
from networks.decode_boxes import decode_boxes
from networks.tile_grid import Tile, tile_grid

#: Boxes and scores.
_Marks = tuple[torch.Tensor, torch.Tensor]


class TiledDetection(Inferer):
    """Boxes of a whole scan from overlapping tiles, without a map of the whole scan in memory.

    Each cell of a network's maps belongs to the core of one tile (see
    :func:`networks.tile_grid.tile_grid`), and only there it can become a box. So no box comes
    twice, and where ``margin`` is no less than the network's reach (see
    :func:`networks.receptive_field.receptive_field`) the boxes are those of the whole scan in one
    piece, wherever the tiles lie.

    Nothing is padded but the last cell of an axis that ``stride`` does not divide, with the
    values at the scan's border. Boxes may reach past the scan, but not with their centre.

    Args:
        tile_shape: voxels of a tile along each axis at most, multiples of ``stride``.
        stride: stride of the coarsest level along each axis. (Of the encoder for a
            :class:`networks.GlobalBoxRegressor`, which gives one box per tile.)
        margin: voxels along each axis between a core and its tile's border, rounded up to
            multiples of ``stride``; tiles overlap by twice as much.
        top_k: cells of a scan that are decoded.
        min_score: boxes with this score or less are dropped.
        iou_threshold: of boxes that overlap by more, only the best is kept.
        max_boxes: boxes kept per scan at most.
        tile_batch: tiles the network is given at a time.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        *,
        tile_shape: Sequence[int],
        stride: Sequence[int],
        margin: Sequence[int],
        top_k: int,
        min_score: float,
        iou_threshold: float,
        max_boxes: int,
        tile_batch: int = 1,
    ) -> None:
        super().__init__()
        if tile_batch < 1:
            raise ValueError(f"tile_batch must be 1 or more, got {tile_batch}")
        # A setting that breaks a rule shall do so now, and not after a network has run.
        tile_grid(tile_shape, tile_shape=tile_shape, stride=stride, margin=margin)
        no_scan = {"logits": [torch.empty(0, 1, 1)]}
        decode_boxes(no_scan, [(1,)], top_k=top_k, min_score=min_score)
        nms(torch.empty(0, 4), torch.empty(0), iou_threshold, max_boxes)
        self.tile_shape = tuple(tile_shape)
        self.stride = tuple(stride)
        self.margin = tuple(margin)
        self.top_k = top_k
        self.min_score = min_score
        self.iou_threshold = iou_threshold
        self.max_boxes = max_boxes
        self.tile_batch = tile_batch

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, list[torch.Tensor]]:
        """Boxes and scores of each scan.

        Args:
            inputs: scans ``(B, C, *spatial)``.
            network: tile ``(B, C, *tile)`` to the raw maps of a :class:`networks.NoduleDetector`;
                it is also given ``args`` and ``kwargs``.

        Returns:
            ``boxes``, for each scan float32 ``(N, 2 * spatial_dims)`` corners in voxels of the
            scan, voxel i from i to i + 1, and ``scores`` ``(N,)``, falling.

        Raises:
            ValueError: if the scans have other axes than the tiles, or the network's maps do not
                divide a tile or hold a NaN.
        """
        scans = convert_to_tensor(inputs, track_meta=False)
        spatial = scans.shape[2:]
        if len(spatial) != len(self.tile_shape):
            raise ValueError(
                f"a scan must have {len(self.tile_shape)} axes, got shape {tuple(spatial)}"
            )
        tiles = tile_grid(
            spatial, tile_shape=self.tile_shape, stride=self.stride, margin=self.margin
        )
        found: list[list[_Marks]] = [[] for _ in scans]
        jobs = list(itertools.product(range(len(scans)), tiles))
        for begin in range(0, len(jobs), self.tile_batch):
            batch = jobs[begin : begin + self.tile_batch]
            images = torch.stack([cut_tile(scans[index], tile) for index, tile in batch])
            outputs = network(images, *args, **kwargs)
            decoded = self._decode(outputs, [tile for _, tile in batch])
            for (index, _), marks in zip(batch, decoded, strict=True):
                found[index].append(marks)
        marks_of_scans = [self._merge(marks, spatial) for marks in found]
        return {
            "boxes": [boxes for boxes, _ in marks_of_scans],
            "scores": [scores for _, scores in marks_of_scans],
        }

    def _decode(
        self, outputs: Mapping[str, Sequence[torch.Tensor]], tiles: Sequence[Tile]
    ) -> list[_Marks]:
        """Marks of each tile's core, in voxels of the scan."""
        strides = [_cell_shape(tiles[0], level.shape[2:]) for level in outputs["logits"]]
        logits = [
            torch.stack([_only_core(map_, t, stride) for map_, t in zip(level, tiles, strict=True)])
            for level, stride in zip(outputs["logits"], strides, strict=True)
        ]
        decoded = decode_boxes(
            {**outputs, "logits": logits}, strides, top_k=self.top_k, min_score=self.min_score
        )
        return [
            (boxes + boxes.new_tensor([span.start for span in tile] * 2), scores)
            for tile, (boxes, scores) in zip(tiles, decoded, strict=True)
        ]

    def _merge(self, marks: Sequence[_Marks], shape: Sequence[int]) -> _Marks:
        """The marks of a scan's tiles, cut to the best and freed of overlaps."""
        boxes = torch.cat([boxes for boxes, _ in marks])
        scores = torch.cat([scores for _, scores in marks])
        best = scores.argsort(descending=True, stable=True)[: self.top_k]
        low, high = boxes[best].chunk(2, dim=1)
        centre = (low + high) / 2
        best = best[((centre >= 0) & (centre < centre.new_tensor(shape))).all(1)]
        kept = best[nms(boxes[best], scores[best], self.iou_threshold, self.max_boxes)]
        return boxes[kept], scores[kept]


def _cell_shape(tile: Tile, feature: Sequence[int]) -> list[int]:
    shape = [span.stop - span.start for span in tile]
    if any(size % cells for size, cells in zip(shape, feature, strict=True)):
        raise ValueError(
            f"a level's cells must divide the tile of {shape} voxels, got {list(feature)} cells"
        )
    return [size // cells for size, cells in zip(shape, feature, strict=True)]


def _only_core(logits: torch.Tensor, tile: Tile, stride: Sequence[int]) -> torch.Tensor:
    """Logits ``(1, *feature)`` with -inf in cells whose centre is not in the tile's core."""
    logits = logits.clone()
    for axis, (span, step) in enumerate(zip(tile, stride, strict=True), start=1):
        cells = torch.arange(logits.shape[axis], device=logits.device)
        centre = span.start + (cells + 0.5) * step
        outside = (centre < span.core_start) | (centre >= span.core_stop)
        logits.index_fill_(axis, outside.nonzero().squeeze(1), -torch.inf)
    return logits
