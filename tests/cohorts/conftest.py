from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


@pytest.fixture
def write_metaimage() -> Callable[..., Path]:
    """Writes a ``.mhd`` and its ``.raw``, as LUNA16 has them."""

    def write(path: Path, shape: tuple[int, ...] = (40, 40, 30), offset_lps: str = "-20 -20 0"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            "CompressedData = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
            f"Offset = {offset_lps}\nCenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\n"
            f"ElementSpacing = 1 1 2\nDimSize = {' '.join(map(str, shape))}\n"
            f"ElementType = MET_SHORT\nElementDataFile = {path.stem}.raw\n"
        )
        hu = np.full(shape, -1000, np.int16)
        hu[:20] = 40
        path.with_suffix(".raw").write_bytes(hu.T.tobytes())
        return path

    return write


@pytest.fixture
def write_dicom() -> Callable[..., list[str]]:
    """Writes a CT series, 1 mm pixels, 2 mm slices rising from 0; returns its SOPInstanceUIDs.

    ``hu`` is ``(columns, rows, slices)``; files are named against the order of the slices.
    """

    def write(folder: Path, series: str, hu: np.ndarray | None = None, **header: Any) -> list[str]:
        folder.mkdir(parents=True)
        if hu is None:
            hu = np.full((32, 24, 6), -1000, np.int16)
            hu[:16] = 40
        uids = [f"{series}.{z + 1}" for z in range(hu.shape[2])]
        for z, uid in enumerate(uids):
            dataset = pydicom.Dataset()
            dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
            dataset.SeriesInstanceUID, dataset.Modality = series, "CT"
            dataset.StudyInstanceUID, dataset.PatientID = "1.2.3", "P1"
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            dataset.Columns, dataset.Rows = hu.shape[:2]
            dataset.PixelSpacing = [1, 1]
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.ImagePositionPatient = [-16, -12, 2 * z]
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelRepresentation = 15, 1
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
            for name, value in header.items():
                setattr(dataset, name, value)
            dataset.PixelData = hu[:, :, z].T.astype("<i2").tobytes()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.save_as(folder / f"1-{99 - z:02}.dcm", enforce_file_format=True)
        return uids

    return write
