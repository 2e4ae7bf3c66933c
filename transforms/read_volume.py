"""Arrays and affines from NIfTI, MetaImage and DICOM."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from monai.data import ITKReader
from nibabel.arrayproxy import ArrayProxy

from transforms.read_dicom import read_dicom
from transforms.scan_error import ScanError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
METAIMAGE_SUFFIXES = (".mhd", ".mha")
# Slices read at a time, and columns of them turned at a time: what is turned stays in the cache.
SLICES, COLUMNS = 32, 16


def read_volume(
    path: str | Path, spatial_dims: int, *, keep_int16: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a NIfTI, a MetaImage, a DICOM series folder or, in 2D, one DICOM file.

    Args:
        path: of the file or folder.
        spatial_dims: 3 or 2.
        keep_int16: leaves the values of a NIfTI of int16 without slope and intercept as they are,
            at half the memory.

    Returns:
        Float32 (or int16) array of ``spatial_dims`` axes and its 4x4 affine from voxel to RAS mm.

    Raises:
        ScanError: missing, unreadable or cut-off file, other number of axes, NaN or infinite
            values, spacing that is not above zero, a singular affine, a 3D NIfTI without one.
    """
    path = Path(path)
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
    if not path.exists():
        raise ScanError(f"{path}: the file must exist, got nothing there")
    name = path.name.lower()
    if path.is_dir() or name.endswith(".dcm"):
        array, affine = read_dicom(path, spatial_dims)
    elif name.endswith(NIFTI_SUFFIXES + METAIMAGE_SUFFIXES):
        with must_be_complete(path):
            if name.endswith(NIFTI_SUFFIXES):
                array, affine = _read_nifti(path, spatial_dims, keep_int16)
            else:
                array, affine = _read_metaimage(path)
    else:
        raise ScanError(
            f"{path}: must be a .nii, .nii.gz, .mhd, .mha, .dcm or a DICOM series folder, "
            f"got {path.suffix or 'no suffix'}"
        )
    while array.ndim > spatial_dims and array.shape[-1] == 1:
        array = array[..., 0]
    _check(path, array, affine, spatial_dims)
    return array, affine


@contextmanager
def must_be_complete(path: Path) -> Iterator[None]:
    """Whatever a library raises while it reads ``path`` becomes one sentence, a ``ScanError``."""
    try:
        yield
    except ScanError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[-200:]
        raise ScanError(
            f"{path}: must be readable and complete, got {type(error).__name__}: {reason}"
        ) from error


def _read_nifti(path: Path, spatial_dims: int, keep_int16: bool) -> tuple[np.ndarray, np.ndarray]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        # nibabel silently turns a zero voxel size into 1 mm, so it is read before that.
        header = nib.Nifti1Header.from_fileobj(stream, check=False)
    spacing_mm = header["pixdim"][1:4]
    if header["sizeof_hdr"] == 348 and not (spacing_mm[: header["dim"][0]] > 0).all():
        raise ScanError(
            f"{path}: spacing must be above zero and finite, got {_listed(spacing_mm)} mm"
        )
    # Left open, a compressed file is unpacked once, however many parts it is read in.
    image = nib.Nifti1Image.from_filename(path, keep_file_open=True)
    codes = int(header["sform_code"]), int(header["qform_code"])
    # Without either nibabel makes up an affine, and left and right would be a guess.
    if spatial_dims == 3 and codes == (0, 0):
        raise ScanError(f"{path}: sform or qform must be set, got codes 0 and 0")
    values = cast(ArrayProxy, image.dataobj)
    plain = values.dtype.newbyteorder("=") == np.int16 and (values.slope, values.inter) == (1, 0)
    dtype = np.int16 if keep_int16 and plain else np.float32
    return _in_c_order(values, dtype), np.asarray(image.affine, float)


def _in_c_order(values: ArrayProxy, dtype: type[np.generic]) -> np.ndarray:
    """A file's values with the last axis the fastest, while the file has the first as such.

    Turned as a whole they would wait for memory at every voxel, several times as long.
    """
    if len(values.shape) < 3 or any(size != 1 for size in values.shape[3:]):
        return np.asarray(values, dtype)
    array = np.empty(values.shape, dtype)
    for first in range(0, values.shape[2], SLICES):
        slices = slice(first, first + SLICES)
        part = values[:, :, slices]
        for column in range(0, values.shape[1], COLUMNS):
            columns = slice(column, column + COLUMNS)
            array[:, columns, slices] = part[:, columns]
    return array


def _read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(path))
    affine = np.eye(4)
    rank = min(array.ndim, 3)
    affine[:rank, :rank] = meta["affine"][:rank, :rank]
    affine[:rank, 3] = meta["affine"][:rank, -1]
    return np.asarray(array, np.float32), affine


def _check(path: Path, array: np.ndarray, affine: np.ndarray, spatial_dims: int) -> None:
    if array.ndim != spatial_dims or 0 in array.shape:
        raise ScanError(
            f"{path}: the image must have {spatial_dims} dimensions, got shape {array.shape}"
        )
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (spacing_mm > 0).all():
        raise ScanError(
            f"{path}: spacing must be above zero and finite, got {_listed(spacing_mm)} mm"
        )
    volume = float(np.linalg.det(affine[:3, :3] / spacing_mm))
    if abs(volume) < 1e-3:
        raise ScanError(
            f"{path}: the affine must be invertible, got a determinant of {volume:.3g} "
            f"between unit axes"
        )
    # The sum of float32 values is finite when all of them are, and costs no second array.
    if array.dtype != np.int16 and not np.isfinite(array.sum(dtype=np.float64)):
        bad = int((~np.isfinite(array)).sum())
        raise ScanError(f"{path}: all values must be finite, got {bad} NaN or infinite ones")


def _listed(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
