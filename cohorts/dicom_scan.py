"""A DICOM series as one NIfTI, and the place of each of its slices in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.write_nifti import write_nifti
from transforms.read_dicom import read_dicom_series

INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class DicomScan:
    """A CT series: ``hu`` int16 ``(columns, rows, slices)``, affine from voxel to RAS mm.

    ``slice_of_uid`` is the index of each slice by its SOPInstanceUID.
    """

    folder: Path
    hu: NDArray[np.int16]
    affine: NDArray[np.float64]
    slice_of_uid: dict[str, int]

    @property
    def slice_mm(self) -> float:
        """Distance from slice to slice."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    def write(self, path: Path) -> None:
        """Write the scan as NIfTI, int16 HU."""
        write_nifti(self.hu.T, self.affine, path)


def read_dicom_scan(folder: Path) -> DicomScan:
    """One CT series from its folder, HU rounded to whole numbers.

    The affine is the one that its NIfTI will have, whose numbers are of single precision, so that
    boxes and image stay on one grid.

    Raises:
        ScanError: as :func:`transforms.read_dicom.read_dicom`, or as a chest CT that
            :func:`transforms.load_scan` refuses.
    """
    volume, affine, headers = read_dicom_series(folder)
    low, high = float(volume.min()), float(volume.max())
    if low < INT16.min or high > INT16.max:
        raise ValueError(
            f"{folder}: HU must lie within {INT16.min} and {INT16.max}, got {low:g} to {high:g}"
        )
    hu = np.rint(volume).astype(np.int16)
    single = affine.astype(np.float32).astype(np.float64)
    slice_of_uid = {str(header.SOPInstanceUID): index for index, header in enumerate(headers)}
    return DicomScan(folder, hu, single, slice_of_uid)
