"""Maps of several scales, each with the context of the coarser ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F  # noqa: N812


class FeaturePyramid(nn.Module):
    """Adds coarse maps to finer ones, top-down (arXiv:1612.03144), without smoothing them after.

    A 1x1x1 convolution brings each map to the same channels; a coarse cell is then added to all
    the fine cells it covers. A convolution to smooth the sums is left to what reads them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of each map, fine to coarse.
        strides: input voxels per cell of each map, one number per axis.
        out_channels: channels of every map that comes out.

    Shape:
        list of ``(B, in_channels[l], *feature_l)``, fine to coarse, to the same list with
        ``out_channels``; where a fine map does not divide, the coarse one reaches past its end.

    Raises:
        ValueError: if a map's stride is not a multiple of that of the next finer one.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        out_channels: int,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            Conv[Conv.CONV, spatial_dims](channels, out_channels, kernel_size=1)
            for channels in in_channels
        )
        self.ratios: list[list[float]] = []
        for fine, coarse in itertools.pairwise(strides):
            if any(c % f for f, c in zip(fine, coarse, strict=True)):
                raise ValueError(
                    "the stride of a coarse map must be a multiple of the finer one's, "
                    f"got {list(coarse)} above {list(fine)}"
                )
            self.ratios.append([float(c // f) for f, c in zip(fine, coarse, strict=True)])

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = []
        for level, lateral in enumerate(self.laterals):
            maps.append(lateral(features[level]))
        for level in range(len(maps) - 2, -1, -1):
            # By factor, not by size: cell j of the coarse map covers the same voxels at any size.
            above = F.interpolate(maps[level + 1], scale_factor=self.ratios[level])
            for axis in range(2, above.dim()):
                above = above.narrow(axis, 0, maps[level].shape[axis])
            maps[level] = maps[level] + above
        return maps
