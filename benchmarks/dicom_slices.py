"""A CT as the DICOM series that a scanner writes, uncompressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from monai.data import MetaTensor
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

_SERIES = "1.2.826.0.1.3680043.8.498.1"


def write_slices(ct: MetaTensor, folder: Path) -> Path:
    """Writes the axial slices of a CT ``(1, H, W, D)`` in HU whose axes run along LPS.

    Raises:
        ValueError: axes that run otherwise.
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine.numpy()  # to LPS mm, as DICOM has them
    spacing_mm = np.diag(affine)[:3]
    if not np.allclose(affine[:3, :3], np.diag(spacing_mm)) or (spacing_mm <= 0).any():
        raise ValueError(f"axes must run to the left, back and head, got LPS {affine.tolist()}")
    folder.mkdir(parents=True)
    hu = ct.numpy()[0].round().astype("<i2")
    for number in range(hu.shape[2]):
        place_mm = affine[:3, 3] + [0, 0, number * spacing_mm[2]]
        header = pydicom.Dataset()
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"{_SERIES}.1.{number + 1}"
        header.SeriesInstanceUID, header.StudyInstanceUID = f"{_SERIES}.1", _SERIES
        header.PatientID, header.Modality = "phantom", "CT"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.Columns, header.Rows = hu.shape[:2]
        header.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[0])]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [round(float(mm), 6) for mm in place_mm]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        header.PixelData = hu[:, :, number].T.tobytes()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)
    return folder
