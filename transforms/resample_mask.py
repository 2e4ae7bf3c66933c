"""Instance masks on another grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from transforms.derived_volume import derived_volume
from transforms.square_affine import square_affine


def resample_mask(mask: MetaTensor, image: MetaTensor) -> MetaTensor:
    """An instance mask on the grid of an image, where every nodule keeps its volume.

    The nearest label would do so on average only: the smaller a nodule, the more its volume would
    depend on where the grid happens to lie, and some would vanish. Here each instance takes the
    voxels that it covers most, as many as its volume fills, at least one. Where two want the same
    voxel the smaller has it. On its own grid a mask stays as it is.

    Args:
        mask: ``(1, *spatial)`` with its affine, 0 the background.
        image: ``(C, *spatial)`` with its affine; turned, flipped, oblique or cropped as it may be.

    Returns:
        ``(1, *spatial of the image)`` of the mask's type; what lies outside the image is left out.
    """
    rank = mask.ndim - 1
    target_to_world, source_to_world = (
        square_affine(volume.affine, rank).numpy() for volume in (image, mask)
    )
    to_target = np.linalg.solve(target_to_world, source_to_world)
    labels = mask.as_tensor().cpu().numpy()[0]
    out = np.zeros(tuple(image.shape[1:]), labels.dtype)
    places = np.argwhere(labels)
    instances = labels[tuple(places.T)]
    found, sizes = np.unique(instances, return_counts=True)
    for label in found[np.argsort(sizes, kind="stable")]:
        coverage, low = _coverage(places[instances == label], to_target)
        # The part of it that lies in the image.
        first = np.clip(-low, 0, coverage.shape)
        last = np.clip(out.shape - low, first, coverage.shape)
        inside = coverage[tuple(map(slice, first, last))]
        region = out[tuple(map(slice, first + low, last + low))]
        count = max(1, round(float(inside.sum())))
        free = np.where(region == 0, inside, 0).ravel()
        most = np.argsort(-free, kind="stable")[:count]
        chosen = np.zeros(free.shape, bool)
        chosen[most] = free[most] > 0
        region[chosen.reshape(region.shape)] = label
    values = torch.from_numpy(out)[None].to(mask.device)
    return derived_volume(values, image.affine, mask)


def _coverage(
    places: NDArray[np.int64], to_target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Which share of every target voxel the source voxels ``(N, spatial_dims)`` cover, and the
    first of these target voxels.

    Each source voxel is cut into equal parts, at most half a target voxel wide, and each part
    counts where its centre lies, so that the sum is the volume in target voxels.
    """
    matrix, shift = to_target[:-1, :-1], to_target[:-1, -1]
    parts = np.ceil(2 * np.abs(matrix).max(axis=0) - 1e-6).astype(int).clip(min=2)
    centres = places @ matrix.T + shift
    reach = np.abs(matrix).sum(axis=1) / 2
    low = np.rint(centres.min(axis=0) - reach).astype(int)
    shape = tuple(np.rint(centres.max(axis=0) + reach).astype(int) - low + 1)
    coverage = np.zeros(shape)
    for part in np.ndindex(*parts):
        offset = (np.array(part) + 0.5) / parts - 0.5
        cells = np.rint(centres + matrix @ offset).astype(int) - low
        flat = np.ravel_multi_index(tuple(cells.T), shape)
        coverage += np.bincount(flat, minlength=coverage.size).reshape(shape)
    voxel = abs(float(np.linalg.det(matrix)))
    return coverage * (voxel / parts.prod()), low


class ResampleMaskd(MapTransform):
    """Dictionary form of :func:`resample_mask`: each key on the grid of ``image_key``."""

    def __init__(self, keys: KeysCollection = "mask", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, MetaTensor]) -> dict[Hashable, MetaTensor]:
        sample = dict(data)
        for key in self.key_iterator(sample):
            sample[key] = resample_mask(sample[key], sample[self.image_key])
        return sample
