"""A mask on the network's feature grid, with no lesion lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch.nn.functional import adaptive_max_pool2d, adaptive_max_pool3d

from transforms.derived_volume import derived_volume
from transforms.feature_affine import feature_affine


def downsample_mask(mask: torch.Tensor, spatial_shape: Sequence[int]) -> torch.Tensor:
    """A mask on the network's feature grid: a cell that touches the lesion counts.

    Of ``n`` voxels and ``m`` cells along an axis, cell ``j`` covers voxel cells
    ``[j * n / m, (j + 1) * n / m)`` and takes the largest value of all voxels it overlaps, so no
    lesion is lost at any size, ratio or shape; these are the windows of adaptive max pooling.

    Args:
        mask: ``(C, *spatial)``, 2D or 3D, bool, integer or float, not below zero.
        spatial_shape: feature grid ``(h, w[, d])``; may be finer than the mask along an axis.

    Returns:
        ``(C, *spatial_shape)`` of the mask's dtype; a MetaTensor gets the feature grid's affine.
    """
    rank = mask.ndim - 1
    cells = tuple(int(size) for size in spatial_shape)
    if rank not in (2, 3) or len(cells) != rank or min(cells) < 1:
        raise ValueError(
            f"spatial_shape must give a size of at least 1 for each of the mask's 2 or 3 spatial "
            f"axes, got {cells} for a mask of shape {tuple(mask.shape)}"
        )
    plain = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    pool = adaptive_max_pool3d if rank == 3 else adaptive_max_pool2d
    # Labels up to 2**24 are exact in float32, which the pooling needs.
    pooled = pool(plain.float(), cells).to(plain.dtype)
    if not isinstance(mask, MetaTensor):
        return pooled
    affine = feature_affine(mask.affine, mask.shape[1:], cells)
    return derived_volume(pooled, affine, mask)


class DownsampleMaskd(MapTransform):
    """Dictionary form of :func:`downsample_mask` for a network with fixed strides.

    Padded strided convolutions give ``ceil(n / stride)`` cells, so does this. Where the stride
    divides the size, a cell is exactly its ``stride`` voxels; where it does not, the cells share
    the field evenly, each a little narrower than the stride.
    """

    def __init__(
        self, keys: KeysCollection, strides: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if min(strides) < 1:
            raise ValueError(f"strides must be at least 1, got {tuple(strides)}")
        self.strides = tuple(strides)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sizes = sample[key].shape[1:]
            if len(sizes) != len(self.strides):
                raise ValueError(
                    f"strides must have one value for each spatial axis of {key}, "
                    f"got {self.strides} for {tuple(sizes)}"
                )
            cells = [-(-size // stride) for size, stride in zip(sizes, self.strides, strict=True)]
            sample[key] = downsample_mask(sample[key], cells)
        return sample
