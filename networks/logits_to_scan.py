"""From a network's logits to a mask on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data.utils import to_affine_nd
from scipy import ndimage
from torch.nn import functional as F  # noqa: N812

#: Cells between the faces of a block. On 512 x 512 x 200 scans 8 took as long and 32 longer.
BLOCK_CELLS = 16
EDGE_CELLS = 1e-6


def logits_to_scan(
    logits: torch.Tensor,
    image_affine: torch.Tensor,
    *,
    scan_affine: torch.Tensor,
    scan_shape: Sequence[int],
) -> torch.Tensor:
    """Mask of the voxels at whose centres the logits are above 0.

    Linear between cell centres, as the nearest cell in the outer half cell, and 0 where the image
    does not reach (outside the crop). The axes of the two grids may be swapped, flipped, scaled
    and oblique. Only blocks of cells with a logit above 0 are interpolated, one at a time, so a
    scan with a few nodules takes little time, and never a float volume of its size.

    Args:
        logits: ``(K, *image)``, one channel per class.
        image_affine: voxel of the logits to mm, ``(spatial_dims + 1)`` square or MONAI's 4x4.
        scan_affine: voxel of the scan to mm, in the same world.
        scan_shape: voxels of the scan.

    Returns:
        uint8 ``(K, *scan_shape)`` on the CPU.

    Raises:
        ValueError: if the logits have other axes than the scan or are not finite.
    """
    rank, shape = len(scan_shape), tuple(scan_shape)
    if logits.dim() != rank + 1:
        raise ValueError(
            f"logits must have a channel and the {rank} axes of the scan, "
            f"got shape {tuple(logits.shape)}"
        )
    low, high = logits.aminmax()
    if not torch.isfinite(high - low):
        raise ValueError(f"logits must be finite, got values from {low:g} to {high:g}")
    on_image = logits.detach().float().cpu()
    to_cell = np.linalg.solve(_float64(rank, image_affine), _float64(rank, scan_affine))
    if shape == on_image.shape[1:] and _is_identity(to_cell, shape):
        return (on_image > 0).to(torch.uint8)
    mask = np.zeros((len(on_image), *shape), np.uint8)
    for channel, first, last in _positive_blocks(on_image):
        box = _voxels_between(first, last, to_cell, shape)
        if all(span.start < span.stop for span in box):
            mask[channel][box] |= _sample(on_image[channel].numpy(), to_cell, box)
    return torch.from_numpy(mask)


def _float64(rank: int, affine: torch.Tensor) -> np.ndarray:
    return np.asarray(to_affine_nd(rank, affine.detach().cpu()), dtype=np.float64)


def _is_identity(to_cell: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether no voxel's centre is off its cell's."""
    off_cells = np.abs(to_cell - np.eye(len(to_cell)))[:-1] @ [*shape, 1]
    return off_cells.max() <= EDGE_CELLS


def _positive_blocks(logits: torch.Tensor) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Channel, first and last cell of the blocks that hold a logit above 0.

    Neighbours share a face of cells, so that each point between cells lies in one block. In the
    outer half cell a block ends with the image.
    """
    cells = np.array(logits.shape[1:])
    kernel = [min(BLOCK_CELLS + 1, int(n)) for n in cells]
    pool = F.max_pool2d if len(cells) == 2 else F.max_pool3d
    positive = pool(logits[None], kernel, BLOCK_CELLS, ceil_mode=True)[0] > 0
    blocks = []
    for channel, *block in positive.nonzero().tolist():
        first = np.array(block) * BLOCK_CELLS
        last = first + BLOCK_CELLS
        outer = np.where(last >= cells - 1, cells - 0.5, last)
        blocks.append((channel, np.where(first == 0, -0.5, first), outer))
    return blocks


def _voxels_between(
    first: np.ndarray, last: np.ndarray, to_cell: np.ndarray, shape: Sequence[int]
) -> tuple[slice, ...]:
    """The scan's voxels in the smallest box round a block of cells."""
    to_voxel = np.linalg.inv(to_cell)[:-1]
    centre = to_voxel @ [*(first + last) / 2, 1]
    reach = np.abs(to_voxel[:, :-1]) @ ((last - first) / 2 + EDGE_CELLS)
    starts = np.clip(np.ceil(centre - reach), 0, shape).astype(int)
    stops = np.clip(np.floor(centre + reach) + 1, 0, shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True))


def _sample(logits: np.ndarray, to_cell: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """Whether the logits ``(*image)`` are above 0 at each voxel of a box of the scan."""
    corner = to_cell[:-1] @ [*(span.start for span in box), 1]
    shape = [span.stop - span.start for span in box]
    values = ndimage.affine_transform(
        logits,
        to_cell[:-1, :-1],
        corner,
        output_shape=tuple(shape),
        output=np.float32,
        order=1,
        mode="nearest",
    )
    above = values > 0
    voxels = np.ogrid[tuple(slice(size) for size in shape)]
    for row, start, cells in zip(to_cell, corner, logits.shape, strict=False):
        position = start + sum(step * axis for step, axis in zip(row, voxels, strict=False))
        above &= np.abs(position - (cells - 1) / 2) <= cells / 2 + EDGE_CELLS
    return above
