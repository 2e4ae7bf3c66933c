"""Segmentation of a whole scan, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import to_affine_nd
from monai.inferers.inferer import Inferer
from monai.utils.type_conversion import convert_to_tensor

from networks.cut_tile import cut_tile
from networks.tile_grid import Tile, tile_grid


class TiledSegmentation(Inferer):
    """Logits of a whole scan, stitched from the cores of overlapping tiles.

    Each voxel is taken from the one tile in whose core it lies (see
    :func:`networks.tile_grid.tile_grid`), so nothing is averaged. Where ``margin`` is no less than
    the network's reach (see :func:`networks.receptive_field.receptive_field`) the logits are those
    of the whole scan in one piece, wherever the tiles lie.

    Nothing is padded but the last cell of an axis that ``stride`` does not divide, with the
    values at the scan's border.

    Args:
        tile_shape: voxels of a tile along each axis at most, multiples of ``stride``.
        stride: total stride of the network along each axis.
        margin: voxels along each axis between a core and its tile's border, rounded up to
            multiples of ``stride``; tiles overlap by twice as much.
        tile_batch: tiles the network is given at a time at most; batches are of about one size.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        *,
        tile_shape: Sequence[int],
        stride: Sequence[int],
        margin: Sequence[int],
        tile_batch: int = 2,
    ) -> None:
        super().__init__()
        if tile_batch < 1:
            raise ValueError(f"tile_batch must be 1 or more, got {tile_batch}")
        # A setting that breaks a rule shall do so now, and not after a network has run.
        tile_grid(tile_shape, tile_shape=tile_shape, stride=stride, margin=margin)
        self.tile_shape = tuple(tile_shape)
        self.stride = tuple(stride)
        self.margin = tuple(margin)
        self.tile_batch = tile_batch

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Logits of each scan.

        Args:
            inputs: scans ``(B, C, *spatial)``, all on one grid.
            network: tiles ``(B, C, *tile)`` to logits ``(B, K, *tile)``; it is also given
                ``args`` and ``kwargs``.

        Returns:
            ``logits``, float32 ``(B, K, *spatial)`` on the network's device, and ``affine``, voxel
            to mm, float64 ``(spatial_dims + 1)`` square on the CPU (identity for plain tensors).

        Raises:
            ValueError: if the scans have other axes than the tiles or several grids, or the
                network's logits are not on the tile's grid or not finite.
        """
        affine = _shared_affine(inputs, len(self.tile_shape))
        scans = convert_to_tensor(inputs, track_meta=False)
        spatial = scans.shape[2:]
        if len(spatial) != len(self.tile_shape):
            raise ValueError(
                f"a scan must have {len(self.tile_shape)} axes, got shape {tuple(spatial)}"
            )
        tiles = tile_grid(
            spatial, tile_shape=self.tile_shape, stride=self.stride, margin=self.margin
        )
        jobs = list(itertools.product(range(len(scans)), tiles))
        stitched: torch.Tensor | None = None
        for batch in _even_batches(jobs, self.tile_batch):
            images = torch.stack([cut_tile(scans[index], tile) for index, tile in batch])
            logits = network(images, *args, **kwargs)
            if logits.shape[2:] != images.shape[2:]:
                raise ValueError(
                    f"the network's logits must be on the tile's grid of {tuple(images.shape[2:])} "
                    f"voxels, got {tuple(logits.shape[2:])}"
                )
            if stitched is None:
                shape = (len(scans), logits.shape[1], *spatial)
                stitched = torch.empty(shape, dtype=torch.float32, device=logits.device)
            for (index, tile), on_tile in zip(batch, logits, strict=True):
                _stitch(stitched[index], on_tile, tile)
        assert stitched is not None
        return {"logits": stitched, "affine": affine}


def _shared_affine(scans: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """The affine of a batch, which has one for each scan when it comes from a loader."""
    if not isinstance(scans, MetaTensor):
        return torch.eye(spatial_dims + 1, dtype=torch.float64)
    affines = scans.affine.cpu().reshape(-1, *scans.affine.shape[-2:])
    if not torch.equal(affines, affines[:1].expand_as(affines)):
        raise ValueError("the scans of a batch must have one grid, got several affines")
    return torch.as_tensor(to_affine_nd(spatial_dims, affines[0]), dtype=torch.float64)


def _even_batches(jobs: Sequence, most: int) -> list[Sequence]:
    """As few batches as can be, of one size or one less.

    A single tile left over is slow on a CPU, where torch convolves few channels better in pairs.
    """
    count = -(-len(jobs) // most)
    bounds = [len(jobs) * batch // count for batch in range(count + 1)]
    return [jobs[start:stop] for start, stop in itertools.pairwise(bounds)]


def _stitch(scan: torch.Tensor, logits: torch.Tensor, tile: Tile) -> None:
    """Writes a tile's core to where it lies in the scan, both ``(K, *spatial)``."""
    cores = [slice(span.core_start - span.start, span.core_stop - span.start) for span in tile]
    core = logits[(slice(None), *cores)]
    if not core.isfinite().all():
        raise ValueError(
            "the network's logits must be finite, got NaN or infinite ones in the tile from voxel "
            f"{tuple(span.start for span in tile)}"
        )
    scan[(slice(None), *(slice(span.core_start, span.core_stop) for span in tile))] = core
