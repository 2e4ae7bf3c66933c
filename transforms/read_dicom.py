"""DICOM series folders and single DICOM images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from transforms.dicom_pixels import dicom_pixels, reason
from transforms.scan_error import ScanError

SPACING_TOLERANCE = 0.1
ORIENTATION_TOLERANCE = 1e-3
REQUIRED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_dicom(path: Path, spatial_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads one CT series folder (3D) or one DICOM file (2D).

    Axes follow DICOM's own: axis 0 runs along a row (columns), axis 1 down the columns (rows),
    axis 2 along the slice normal, in rising order. Slices are placed by ImagePositionPatient;
    SliceThickness, InstanceNumber and file names are never used.

    Returns:
        Values after the rescale slope and intercept, float32 ``(H, W, D)`` or ``(H, W)``, and the
        4x4 affine from voxel to RAS mm.

    Raises:
        ScanError: the folder is no single, complete, evenly spaced CT series.
    """
    if spatial_dims == 2:
        return dicom_pixels(path).T, _affine_2d(path, _header(path))
    volume, affine, _ = read_dicom_series(path)
    return volume, affine


def read_dicom_series(path: Path) -> tuple[np.ndarray, np.ndarray, list[Dataset]]:
    """Values and affine as :func:`read_dicom` gives them in 3D, and the header of each slice.

    Raises as :func:`read_dicom`.
    """
    files = _series_files(path) if path.is_dir() else [path]
    headers = {file: _header(file) for file in files}
    _check_one_series(path, headers)
    files = _sorted_by_position(path, headers)
    affine = _affine_3d(path, [headers[file] for file in files])
    first = headers[files[0]]
    volume = np.empty((first.Columns, first.Rows, len(files)), np.float32)
    for index, file in enumerate(files):
        volume[..., index] = dicom_pixels(file).T
    return volume, affine, [headers[file] for file in files]


def dicom_files(folder: Path) -> list[Path]:
    """The files of a folder that hold DICOM, by name; hidden ones and a CD's index are no such."""
    return [file for file in _candidates(folder) if _is_dicom(file)]


def _candidates(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.startswith(".") and file.name != "DICOMDIR"
    ]


def _is_dicom(file: Path) -> bool:
    """Whether the file has DICOM's magic word."""
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _series_files(folder: Path) -> list[Path]:
    """DICOM files; a .dcm that is none is an error, anything else is passed by."""
    files = []
    for file in _candidates(folder):
        if _is_dicom(file):
            files.append(file)
        elif file.suffix.lower() == ".dcm":
            raise ScanError(f"{file}: a .dcm file must hold DICOM, got something else")
    if not files:
        raise ScanError(f"{folder}: a DICOM series folder must hold DICOM files, got none")
    return files


def _header(file: Path) -> Dataset:
    try:
        return pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:
        raise ScanError(f"{file}: must be a readable DICOM file, got {reason(error)}") from error


def _check_one_series(path: Path, headers: dict[Path, Dataset]) -> None:
    for file, header in headers.items():
        if header.get("Modality") != "CT":
            raise ScanError(f"{file}: Modality must be CT, got {header.get('Modality')}")
        for name in REQUIRED:
            if name not in header or header[name].is_empty:
                raise ScanError(f"{file}: {name} must be given, got none")
    series = Counter(str(header.get("SeriesInstanceUID")) for header in headers.values())
    if len(series) > 1:
        counts = ", ".join(f"{uid} ({count} files)" for uid, count in series.most_common(4))
        raise ScanError(f"{path}: a folder must hold one series, got {len(series)}: {counts}")
    first_file, first = next(iter(headers.items()))
    for file, header in headers.items():
        for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
            ours, theirs = np.atleast_1d(header[name].value), np.atleast_1d(first[name].value)
            if not np.allclose(
                ours.astype(float), theirs.astype(float), atol=ORIENTATION_TOLERANCE, rtol=0
            ):
                raise ScanError(
                    f"{file}: {name} must be that of {first_file.name} throughout the series, "
                    f"got {header[name].value} and {first[name].value}"
                )


def _directions(header: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along a row, down a column and along their normal, LPS."""
    along_row, down_column = np.asarray(header.ImageOrientationPatient, float).reshape(2, 3)
    return along_row, down_column, np.cross(along_row, down_column)


def _sorted_by_position(path: Path, headers: dict[Path, Dataset]) -> list[Path]:
    if len(headers) < 2:
        raise ScanError(f"{path}: a series must hold at least 2 slices, got {len(headers)}")
    normal = _directions(next(iter(headers.values())))[2]
    depth_mm = {
        file: float(np.dot(np.asarray(header.ImagePositionPatient, float), normal))
        for file, header in headers.items()
    }
    files = sorted(headers, key=depth_mm.__getitem__)
    gaps_mm = np.diff([depth_mm[file] for file in files])
    spacing_mm = float(np.median(gaps_mm))
    for before, after, gap_mm in zip(files, files[1:], gaps_mm, strict=False):
        if gap_mm < 1e-3 or gap_mm < SPACING_TOLERANCE * spacing_mm:
            raise ScanError(
                f"{path}: every slice must have its own position, got {before.name} and "
                f"{after.name} both at {depth_mm[before]:.3f} mm along the normal"
            )
        if abs(gap_mm - spacing_mm) > SPACING_TOLERANCE * spacing_mm:
            raise ScanError(
                f"{path}: slices must be evenly spaced ({spacing_mm:.3f} mm), got a gap of "
                f"{gap_mm:.3f} mm between {before.name} and {after.name} "
                f"({depth_mm[before]:.3f} to {depth_mm[after]:.3f} mm along the normal)"
            )
    return files


def _affine_3d(path: Path, headers: list[Dataset]) -> np.ndarray:
    """Voxel to RAS mm; the slice step runs from the first position to the last, tilt included."""
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    straight = positions[0] + step * np.arange(len(headers))[:, None]
    off_mm = np.abs(positions - straight).max()
    if off_mm > max(0.5, np.linalg.norm(step)):
        raise ScanError(
            f"{path}: slice positions must lie on a straight line, got one {off_mm:.2f} mm off it"
        )
    return _affine(headers[0], step)


def _affine_2d(path: Path, header: Dataset) -> np.ndarray:
    """Voxel to mm of a single image; one without a position in the patient starts at 0, 0, 0."""
    spacing = header.get("PixelSpacing", header.get("ImagerPixelSpacing"))
    if spacing is None:
        raise ScanError(f"{path}: PixelSpacing or ImagerPixelSpacing must be given, got none")
    header.PixelSpacing = spacing
    header.ImagePositionPatient = header.get("ImagePositionPatient") or [0.0, 0.0, 0.0]
    header.ImageOrientationPatient = header.get("ImageOrientationPatient") or [1, 0, 0, 0, 1, 0]
    return _affine(header, _directions(header)[2])


def _affine(header: Dataset, step: np.ndarray) -> np.ndarray:
    along_row, down_column, _ = _directions(header)
    row_spacing_mm, column_spacing_mm = (float(value) for value in header.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_spacing_mm
    affine[:3, 1] = down_column * row_spacing_mm
    affine[:3, 2] = step
    affine[:3, 3] = np.asarray(header.ImagePositionPatient, float)
    return LPS_TO_RAS @ affine
