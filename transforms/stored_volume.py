"""Volumes on disk of which only a patch is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialCrop
from numpy.typing import NDArray

from transforms.scan_error import ScanError

# Voxels along every axis, in 2D and in 3D; a block is the least that is read.
_CHUNK, _BLOCK = {2: 512, 3: 64}, {2: 64, 3: 16}
# What is rounded to whole numbers must span more than a window's 0 to 1: it must be HU.
_SMALLEST_SPAN_HU = 50.0

Corner = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class StoredVolume:
    """A volume ``(1, *spatial)`` in a compressed file; answers as a MetaTensor does until cropped.

    It holds no open file, so that it may go to other processes.

    Attributes:
        path: written from :func:`compressed_volume`.
        affine: voxel to RAS mm, as the MetaTensor's that was stored.
        stored_shape: ``(*spatial)`` in the file.
        spatial_shape: ``(*spatial)``, no smaller; what lies beyond the file's end is ``fill``.
        dtype: of what is read, such as float32.
        source: the file that it came from.
    """

    path: Path
    affine: torch.Tensor
    stored_shape: tuple[int, ...]
    spatial_shape: tuple[int, ...]
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
        pairs = zip(self.spatial_shape, spatial_shape, strict=True)
        larger = tuple(max(pair) for pair in pairs)
        return replace(self, spatial_shape=larger, fill=fill)

    def crop(self, start: Corner, stop: Corner) -> MetaTensor:
        """Voxels ``start`` to before ``stop``, cut to the volume as MONAI's SpatialCrop does."""
        first = np.clip(start, 0, self.spatial_shape)
        last = np.clip(stop, first, self.spatial_shape)
        if (last <= self.stored_shape).all():
            values = self._read(first, last).astype(self.dtype, copy=False)
        else:
            values = np.full(last - first, self.fill, self.dtype)
            last = np.maximum(np.minimum(last, self.stored_shape), first)
            if (first < last).all():
                values[tuple(map(slice, last - first))] = self._read(first, last)
        affine = self.affine.clone()
        rank = len(first)
        affine[:rank, -1] += affine[:rank, :rank] @ torch.as_tensor(first, dtype=affine.dtype)
        return MetaTensor(torch.from_numpy(values)[None], affine, self.meta)

    def whole(self) -> MetaTensor:
        """All of it."""
        return self.crop([0] * len(self.spatial_shape), self.spatial_shape)

    def _read(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.generic]:
        import blosc2  # takes long to import, and most programs read no stored volume

        # One thread: whoever reads many patches has many workers.
        stored = blosc2.open(str(self.path), mode="r", dparams={"nthreads": 1})
        found: NDArray[np.generic] = stored[tuple(map(slice, first.tolist(), last.tolist()))]
        return found


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


def crop_volume(volume: MetaTensor | StoredVolume, start: Corner, stop: Corner) -> torch.Tensor:
    """Voxels ``start`` to before ``stop`` of a volume in memory or, reading no more, on disk."""
    if isinstance(volume, StoredVolume):
        return volume.crop(start, stop)
    return SpatialCrop(roi_start=start, roi_end=stop)(volume)


def _whole_hu(values: NDArray[np.floating], name: str) -> NDArray[np.int16]:
    low, high = float(values.min()), float(values.max())
    limits = np.iinfo(np.int16)
    if not (limits.min <= low and high <= limits.max and high - low >= _SMALLEST_SPAN_HU):
        raise ScanError(
            f"{name}: a CT to store must be in HU, within {limits.min} and {limits.max} and before "
            f"any intensity window, got values from {low:g} to {high:g}"
        )
    return np.rint(values).astype(np.int16)
