"""The grid of a scan from its header alone."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from transforms.read_dicom import LPS_TO_RAS
from transforms.read_volume import METAIMAGE_SUFFIXES, NIFTI_SUFFIXES, must_be_complete
from transforms.scan_error import ScanError


def scan_grid(path: Path) -> MetaTensor:
    """A NIfTI's or MetaImage's grid: zeros ``(1, H, W, D)`` that take no memory, affine to RAS mm.

    Raises:
        ScanError: a missing, unreadable or cut-off file, another suffix or number of axes.
    """
    name = path.name.lower()
    if not path.is_file():
        raise ScanError(f"{path}: the scan must exist, got no file")
    with must_be_complete(path):
        if name.endswith(NIFTI_SUFFIXES):
            header = nib.nifti1.load(path)
            shape, affine = header.shape, np.asarray(header.affine, float)
        elif name.endswith(METAIMAGE_SUFFIXES):
            shape, affine = _metaimage_grid(path)
        else:
            raise ScanError(f"{path}: must be a NIfTI or a MetaImage, got {path.suffix!r}")
    if len(shape) != 3:
        raise ScanError(f"{path}: the scan must have 3 dimensions, got shape {tuple(shape)}")
    zeros = torch.zeros(()).expand(1, *shape)
    meta = {"filename_or_obj": str(path)}
    return MetaTensor(zeros, torch.as_tensor(affine, dtype=torch.float64), meta)


def _metaimage_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    import itk  # slow to import, and NIfTI does without

    io = itk.MetaImageIO.New()
    if not io.CanReadFile(str(path)):
        raise ScanError(f"{path}: must be a MetaImage, got something else")
    io.SetFileName(str(path))
    io.ReadImageInformation()
    axes = range(io.GetNumberOfDimensions())
    shape = tuple(int(io.GetDimensions(axis)) for axis in axes)
    if len(shape) != 3:
        return shape, np.eye(4)
    affine = np.eye(4)
    for axis in axes:
        affine[:3, axis] = np.array(io.GetDirection(axis)) * io.GetSpacing(axis)
        affine[axis, 3] = io.GetOrigin(axis)
    _check_raw(path, int(io.GetImageSizeInBytes()))
    return shape, LPS_TO_RAS @ affine


def _check_raw(path: Path, expected_bytes: int) -> None:
    """A header's uncompressed data file must be there and whole."""
    header = path.read_bytes()[:4096].decode("latin-1")
    data = re.search(r"^ElementDataFile\s*=\s*(\S.*?)\s*$", header, re.MULTILINE)
    if data is None or data[1] in ("LOCAL", "LIST"):
        return
    raw = path.parent / data[1]
    if not raw.is_file():
        raise ScanError(f"{path}: its data file must exist, got no {data[1]}")
    compressed = re.search(r"^CompressedData\s*=\s*True", header, re.MULTILINE | re.IGNORECASE)
    if compressed is None and raw.stat().st_size < expected_bytes:
        raise ScanError(
            f"{raw}: must hold the {expected_bytes} bytes that {path.name} names, "
            f"got {raw.stat().st_size}"
        )
