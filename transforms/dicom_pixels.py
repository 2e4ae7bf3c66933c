"""The pixels of one DICOM file, compressed or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_rescale, get_decoder
from pydicom.uid import UID

from transforms.scan_error import ScanError


def dicom_pixels(file: Path) -> np.ndarray:
    """Values of one file after the rescale slope and intercept, float32 ``(rows, columns)``.

    pydicom decodes: RLE itself, JPEG lossless, JPEG-LS and JPEG 2000 by gdcm.

    Raises:
        ScanError: a file that is cut off, damaged or no single grey frame, or whose compression
            has no decoder.
    """
    try:
        dataset = pydicom.dcmread(file)
    except Exception as error:
        raise ScanError(f"{file}: must be a readable DICOM file, got {reason(error)}") from error
    if "PixelData" not in dataset:
        # pydicom leaves out compressed pixels that lack their end.
        raise ScanError(f"{file}: must hold its pixels to the end, got none or a part of them")
    syntax = dataset.file_meta.get("TransferSyntaxUID", UID(""))
    try:
        _check_decoder(file, syntax)
        pixels = apply_rescale(dataset.pixel_array, dataset)
    except ScanError:
        raise
    except Exception as error:
        how = f" ({syntax.name})" if syntax else ""
        raise ScanError(f"{file}: its pixels must be readable, got {reason(error)}{how}") from error
    if pixels.ndim != 2 or dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        raise ScanError(
            f"{file}: must hold one MONOCHROME2 frame, got "
            f"{dataset.get('PhotometricInterpretation')} of shape {pixels.shape}"
        )
    return pixels.astype(np.float32)


def reason(error: Exception) -> str:
    """An exception of pydicom in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _check_decoder(file: Path, syntax: UID) -> None:
    """``syntax`` is empty in a file that does not tell it."""
    if not syntax or not syntax.is_compressed:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ScanError(f"{file}: must be compressed as an image, got {syntax.name}") from error
    if not decoder.is_available:
        needed = " or ".join(decoder.missing_dependencies)
        raise ScanError(f"{file}: {syntax.name} must have a decoder installed, got none ({needed})")
