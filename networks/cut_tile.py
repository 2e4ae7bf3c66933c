"""A tile's voxels out of a scan."""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812

from networks.tile_grid import Tile


def cut_tile(scan: torch.Tensor, tile: Tile) -> torch.Tensor:
    """A tile of a scan ``(C, *spatial)``, where it reaches past the scan with the last values."""
    crop = scan[(slice(None), *(slice(span.start, span.stop) for span in tile))]
    missing = [
        span.stop - span.start - size for span, size in zip(tile, crop.shape[1:], strict=True)
    ]
    widths = [width for axis in reversed(missing) for width in (0, axis)]
    return F.pad(crop, widths, mode="replicate") if any(missing) else crop
