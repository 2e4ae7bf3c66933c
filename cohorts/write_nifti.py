"""NIfTI files whose bytes depend on their content alone."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cohorts.replaced_file import replaced_file


def write_nifti(array: NDArray[Any], affine: NDArray[np.float64], path: Path) -> None:
    """Writes an array ``(slices, rows, columns)`` or ``(rows, columns)`` as ``.nii.gz``.

    Args:
        array: its axes in NumPy's order; the file has them the other way round.
        affine: 4x4, from the file's voxels (column, row, slice) to RAS mm.
        path: the file, replaced whole.
    """
    image = nib.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    # No name and no time in the header: equal scans are equal files.
    with (
        replaced_file(path) as part,
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
    ):
        image.to_stream(packed)
