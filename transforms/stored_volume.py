"""Volumes on disk of which only a patch is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialCrop
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from transforms.scan_error import ScanError

# Voxels along every axis, in 2D and in 3D; a block is the least that is read.
_CHUNK, _BLOCK = {2: 512, 3: 64}, {2: 64, 3: 16}
# What is rounded to whole numbers must span more than a window's 0 to 1: it must be HU.
_SMALLEST_SPAN_HU = 50.0

# A label map of more labels than this has no regions of its own.
_MOST_REGIONS = 1000

Corner = Sequence[int] | NDArray[np.integer]
Region = tuple[tuple[int, ...], tuple[int, ...]]  # first voxel and past the last


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """A volume ``(1, *spatial)`` in a compressed file; answers as a MetaTensor does until cropped.

    It holds no open file, so that it may go to other processes.

    Attributes:
        path: written from :func:`compressed_volume`.
        affine: voxel to RAS mm, as the MetaTensor's that was stored.
        spatial_shape: ``(*spatial)``, the file's or larger.
        regions: boxes, first voxel and past the last, that are in the file; all else is ``fill``.
        dtype: of what is read, such as float32.
        source: the file that it came from.
    """

    path: Path
    affine: torch.Tensor
    spatial_shape: tuple[int, ...]
    regions: tuple[Region, ...]
    dtype: str
    source: str
    fill: float = 0

    @property
    def shape(self) -> torch.Size:
        return torch.Size((1, *self.spatial_shape))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def meta(self) -> dict[str, str]:
        return {"filename_or_obj": self.source}

    def padded(self, spatial_shape: Sequence[int], fill: float) -> StoredVolume:
        """The same, at least as large, with ``fill`` at the end of every axis; nothing is read."""
        larger = tuple(np.maximum(self.spatial_shape, spatial_shape).tolist())
        whole = ((0,) * len(larger), self.spatial_shape)
        if fill != self.fill and self.regions != (whole,):
            raise ValueError(
                f"a label map or what is padded already must be padded with {self.fill}, got {fill}"
            )
        return replace(self, spatial_shape=larger, fill=fill)

    def crop(self, start: Corner, stop: Corner) -> MetaTensor:
        """Voxels ``start`` to before ``stop``, cut to the volume as MONAI's SpatialCrop does."""
        first = np.clip(start, 0, self.spatial_shape)
        last = np.clip(stop, first, self.spatial_shape)
        values = self._values(first, last)
        affine = self.affine.clone()
        rank = len(first)
        affine[:rank, -1] += affine[:rank, :rank] @ torch.as_tensor(first, dtype=affine.dtype)
        return MetaTensor(torch.from_numpy(values)[None], affine, self.meta)

    def whole(self) -> MetaTensor:
        """All of it."""
        return self.crop([0] * len(self.spatial_shape), self.spatial_shape)

    def _values(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.generic]:
        met = [(np.maximum(first, start), np.minimum(last, stop)) for start, stop in self.regions]
        met = [(low, high) for low, high in met if (low < high).all()]
        if len(met) == 1 and (met[0][0] == first).all() and (met[0][1] == last).all():
            return self._open()[_slices(first, last)].astype(self.dtype, copy=False)
        values = np.zeros(last - first, self.dtype)  # which, other than filling, touches no memory
        if self.fill != 0:
            values.fill(self.fill)
        stored = self._open() if met else values
        for low, high in met:
            values[_slices(low - first, high - first)] = stored[_slices(low, high)]
        return values

    def _open(self) -> Any:
        import blosc2  # takes long to import, and most programs read no stored volume

        # One thread: whoever reads many patches has many workers.
        return blosc2.open(str(self.path), mode="r", dparams={"nthreads": 1})


def compressed_volume(volume: MetaTensor) -> bytes:
    """The file of a :class:`StoredVolume`.

    Label maps keep their integers. A CT, which is 3D and float, is rounded to whole HU; a 2D image
    keeps its float32, since its values have no unit.

    Args:
        volume: ``(1, H, W, D)`` or ``(1, H, W)``.

    Raises:
        ScanError: another shape, or a float volume that cannot be HU: values beyond int16, or
            with so small a span that rounding would lose them, as after an intensity window.
    """
    import blosc2  # see above

    rank = volume.ndim - 1
    name = volume.meta.get("filename_or_obj", "the volume")
    if rank not in _CHUNK or volume.shape[0] != 1 or 0 in volume.shape:
        raise ScanError(
            f"{name}: a volume to store must have shape (1, H, W, D) or (1, H, W), "
            f"got {tuple(volume.shape)}"
        )
    values = volume.as_tensor().cpu().numpy()[0]
    if values.dtype.kind == "f":
        values = values.astype(np.float32) if rank == 2 else _whole_hu(values, name)
    stored = blosc2.asarray(
        np.ascontiguousarray(values),
        chunks=(_CHUNK[rank],) * rank,
        blocks=(_BLOCK[rank],) * rank,
        cparams={
            "codec": blosc2.Codec.LZ4HC,
            "clevel": 9,
            "filters": [blosc2.Filter.BITSHUFFLE],
            "nthreads": 1,
        },
    )
    content: bytes = stored.to_cframe()
    return content


def stored_regions(volume: MetaTensor) -> list[Region]:
    """The boxes of a volume ``(1, *spatial)`` outside of which it is 0: one for each label.

    A volume that is no label map, float or with values below 0, is one region.
    """
    values = volume.as_tensor().cpu().numpy()[0]
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > _MOST_REGIONS:
        return [((0,) * values.ndim, tuple(values.shape))]
    found = [box for box in find_objects(values.astype(np.int32)) if box is not None]
    return [(tuple(s.start for s in box), tuple(s.stop for s in box)) for box in found]


def crop_volume(volume: MetaTensor | StoredVolume, start: Corner, stop: Corner) -> torch.Tensor:
    """Voxels ``start`` to before ``stop`` of a volume in memory or, reading no more, on disk."""
    if isinstance(volume, StoredVolume):
        return volume.crop(start, stop)
    return SpatialCrop(roi_start=start, roi_end=stop)(volume)


def _slices(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(map(slice, first.tolist(), last.tolist()))


def _whole_hu(values: NDArray[np.floating], name: str) -> NDArray[np.int16]:
    low, high = float(values.min()), float(values.max())
    limits = np.iinfo(np.int16)
    if not (limits.min <= low and high <= limits.max and high - low >= _SMALLEST_SPAN_HU):
        raise ScanError(
            f"{name}: a CT to store must be in HU, within {limits.min} and {limits.max} and before "
            f"any intensity window, got values from {low:g} to {high:g}"
        )
    return np.rint(values).astype(np.int16)
