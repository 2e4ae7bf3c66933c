"""A chest CT at about 4 mm with its axes turned to RAS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from scipy import ndimage
from torch.nn.functional import adaptive_avg_pool3d

from transforms.derived_volume import derived_volume
from transforms.feature_affine import feature_affine
from transforms.scan_error import ScanError, scan_name

WORKING_SPACING_MM = 4.0
AIR_LIMIT_HU = -400.0  # air, lungs among it, lies below and tissue above
EDGE_SHARE = 0.03
IN_SLICE = np.pad(ndimage.generate_binary_structure(2, 1)[..., None], ((0, 0), (0, 0), (1, 1)))
RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class CoarseCT:
    """A chest CT averaged to voxels of at most about 4 mm, its axes turned to RAS.

    Low X is the patient's left, low Y the back, low Z the feet, whatever the scan's orientation.

    Attributes:
        hu: mean HU ``(X, Y, Z)``.
        enclosed_air: bool, air that the body encloses in its axial slice: airways, lungs, bowel.
        spacing_mm: of X, Y and Z.
        midline_voxel: the body's middle along X.
        affine: of the coarse grid in the scan's own axis order.
        orientation: nibabel's orientation of the scan.
    """

    hu: np.ndarray
    enclosed_air: np.ndarray
    spacing_mm: np.ndarray
    midline_voxel: float
    affine: torch.Tensor
    orientation: np.ndarray

    def in_scan_axes(self, labels: np.ndarray, ct: MetaTensor) -> MetaTensor:
        """Labels ``(X, Y, Z)`` as ``(1, h, w, d)`` on the coarse grid in the scan's axis order."""
        turned = apply_orientation(labels, ornt_transform(RAS, self.orientation))
        tensor = torch.from_numpy(np.ascontiguousarray(turned))[None]
        return derived_volume(tensor, self.affine, ct)


def coarse_ct(ct: MetaTensor) -> CoarseCT:
    """Averages a CT ``(1, H, W, D)`` in HU and finds the air inside the body and its midline.

    Raises:
        ScanError: another shape.
    """
    if ct.ndim != 4 or ct.shape[0] != 1:
        raise ScanError(
            f"{scan_name(ct)}: lungs are found in a CT of shape (1, H, W, D), got {tuple(ct.shape)}"
        )
    sizes = np.array(ct.shape[1:])
    spacing_mm = ct.affine[:3, :3].norm(dim=0).cpu().numpy()
    cells = np.ceil(sizes / np.maximum(1, np.floor(WORKING_SPACING_MM / spacing_mm))).astype(int)
    mean = adaptive_avg_pool3d(ct.as_tensor().float(), cells.tolist())[0].cpu().numpy()
    orientation = io_orientation(ct.affine.cpu().numpy())
    hu = np.ascontiguousarray(apply_orientation(mean, orientation))
    spacing_ras_mm = np.empty(3)
    spacing_ras_mm[orientation[:, 0].astype(int)] = spacing_mm * sizes / cells
    # A trace everywhere keeps the mean defined for a scan of nothing but air.
    tissue = (hu > AIR_LIMIT_HU).sum(axis=(1, 2)) + 1e-6
    return CoarseCT(
        hu=hu,
        enclosed_air=_enclosed_air(hu),
        spacing_mm=spacing_ras_mm,
        midline_voxel=float(np.average(np.arange(len(tissue)), weights=tissue)),
        affine=feature_affine(ct.affine, sizes.tolist(), cells.tolist()),
        orientation=orientation,
    )


def on_scan_grid(coarse: MetaTensor, ct: MetaTensor) -> MetaTensor:
    """Labels ``(1, h, w, d)`` of the coarse grid on the scan's ``(1, H, W, D)``, nearest cell."""
    labels = coarse.as_tensor()
    for axis, size in enumerate(ct.shape[1:], start=1):
        cells = _nearest_cells(size, labels.shape[axis])
        labels = labels.index_select(axis, cells.to(labels.device))
    return derived_volume(labels.to(ct.device), ct.affine, ct)


def voxels_of_cells(first: int, last: int, *, voxels: int, cells: int) -> tuple[int, int]:
    """First and past-the-last voxel along an axis whose nearest cell is one of first to last.

    None of ``cells`` is without a voxel, as long as there are no more cells than ``voxels``.
    """
    nearest = _nearest_cells(voxels, cells)
    inside = torch.nonzero((nearest >= first) & (nearest <= last)).flatten()
    return int(inside[0]), int(inside[-1]) + 1


def _nearest_cells(voxels: int, cells: int) -> torch.Tensor:
    """The centre of voxel i, at i + 1/2 of n, lies in cell floor((i + 1/2) * cells / n)."""
    return ((2 * torch.arange(voxels) + 1) * cells).div(2 * voxels, rounding_mode="floor")


def _enclosed_air(hu: np.ndarray) -> np.ndarray:
    """Air that does not reach the sides of its axial slice, as the air around the body does.

    A lung that the field of view cuts touches the side with little of its area and stays.
    """
    labels, count = ndimage.label(hu < AIR_LIMIT_HU, IN_SLICE)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    side = np.zeros(hu.shape, bool)
    side[[0, -1]] = side[:, [0, -1]] = True
    contacts = np.bincount(labels[side], minlength=count + 1)
    enclosed = contacts < EDGE_SHARE * areas
    enclosed[0] = False
    return enclosed[labels]
