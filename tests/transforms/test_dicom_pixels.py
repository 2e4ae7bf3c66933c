from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    MPEG2MPML,
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from transforms import ScanError, load_scan
from transforms.dicom_pixels import dicom_pixels
from transforms.read_dicom import dicom_files, read_dicom_series

SYNTAXES = {
    RLELossless: gdcm.TransferSyntax.RLELossless,
    JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
}
SLOPE, INTERCEPT = 0.5, -1024.0
SLICES = 3

each_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)


def write_series(folder: Path, stored: np.ndarray, bits: int, signed: bool) -> Path:
    """``stored`` ``(columns, rows, slices)`` as an uncompressed CT series."""
    folder.mkdir()
    for z, values in enumerate(np.moveaxis(stored, 2, 0)):
        dataset = pydicom.Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "CT"
        dataset.Columns, dataset.Rows = values.shape
        dataset.PixelSpacing = [1, 1]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, 2 * z]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
        dataset.PixelRepresentation = int(signed)
        dataset.RescaleSlope, dataset.RescaleIntercept = SLOPE, INTERCEPT
        dataset.PixelData = values.T.astype("<i2" if signed else "<u2").tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{z}.dcm", enforce_file_format=True)
    return folder


def body(low: int, high: int) -> np.ndarray:
    """Every stored value that the bits allow may occur; smooth parts and noise."""
    rng = np.random.default_rng(3)
    stored = rng.integers(low, high + 1, (40, 32, SLICES))
    stored[:, 16:] = low + 60 + np.arange(16)[None, :, None]
    stored[0, 0], stored[1, 0] = low, high
    return stored


@each_syntax
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [12, 16])
def test_a_compressed_series_is_read_value_for_value(
    syntax: UID, signed: bool, bits: int, tmp_path: Path, compress_dicom: Callable
) -> None:
    stored = body(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1)
    folder = write_series(tmp_path / "series", stored, bits, signed)
    uncompressed, affine, _ = read_dicom_series(folder)
    for file in dicom_files(folder):
        compress_dicom(file, SYNTAXES[syntax])
    volume, same_affine, headers = read_dicom_series(folder)
    assert {header.file_meta.TransferSyntaxUID for header in headers} == {syntax}
    assert np.array_equal(volume, SLOPE * stored + INTERCEPT)
    assert np.array_equal(volume, uncompressed) and np.array_equal(same_affine, affine)


def test_a_series_may_mix_them(tmp_path: Path, compress_dicom: Callable) -> None:
    folder = write_series(tmp_path / "series", body(-1024, 3000), 16, True)
    plain = load_scan(folder).as_tensor()
    for file, syntax in zip(dicom_files(folder)[1:], list(SYNTAXES.values())[1:], strict=False):
        compress_dicom(file, syntax)
    assert np.array_equal(load_scan(folder).as_tensor(), plain)


def test_a_frame_in_several_fragments(tmp_path: Path, compress_dicom: Callable) -> None:
    stored = body(-1024, 3000)
    file = dicom_files(write_series(tmp_path / "series", stored, 16, True))[0]
    compress_dicom(file, SYNTAXES[JPEGLosslessSV1])
    dataset = pydicom.dcmread(file)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame], fragments_per_frame=4, has_bot=False)
    dataset.save_as(file)
    assert np.array_equal(dicom_pixels(file), SLOPE * stored[..., 0].T + INTERCEPT)


@each_syntax
def test_refuses_a_compressed_file_or_frame_that_is_cut_off(
    syntax: UID, tmp_path: Path, compress_dicom: Callable
) -> None:
    folder = write_series(tmp_path / "series", body(-1024, 3000), 16, True)
    file = dicom_files(folder)[1]
    compress_dicom(file, SYNTAXES[syntax])
    content, dataset = file.read_bytes(), pydicom.dcmread(file)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    for lost in (20, len(frame) // 2, len(frame) - 10):
        file.write_bytes(content[:-lost])
        with pytest.raises(ScanError, match=r"1\.dcm: must hold its pixels to the end") as caught:
            load_scan(folder)
        assert "\n" not in str(caught.value)
        dataset.PixelData = encapsulate([frame[:-lost]])
        dataset.save_as(file)
        with pytest.raises(ScanError, match=r"1\.dcm: its pixels must be readable, got") as caught:
            load_scan(folder)
        assert "\n" not in str(caught.value) and syntax.name in str(caught.value)


def test_refuses_what_no_decoder_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dicom_files(write_series(tmp_path / "series", body(0, 4000), 12, False))[0]
    dataset = pydicom.dcmread(file)
    dataset.PixelData = encapsulate([b"\0" * 64])
    rules = {
        HTJ2KLossless: "High-Throughput JPEG 2000 .* must have a decoder installed, got none .*"
        "pylibjpeg-openjpeg",
        JPEGLosslessSV1: "JPEG Lossless, .* must have a decoder installed, got none .*gdcm>=3",
        MPEG2MPML: "must be compressed as an image, got MPEG2 Main Profile / Main Level",
    }
    # As it is without gdcm.
    decoder = get_decoder(JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    for syntax, rule in rules.items():
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(file)
        with pytest.raises(ScanError, match=rf"0\.dcm: {rule}") as caught:
            dicom_pixels(file)
        assert "\n" not in str(caught.value)


@each_syntax
def test_real_slices_are_the_same_compressed(
    syntax: UID, shared_data: Path, tmp_path: Path, compress_dicom: Callable
) -> None:
    with ZipFile(shared_data / "lidc1011" / "LIDC-IDRI-1011_dicom_excerpt.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".dcm")][:2]:
            archive.extract(name, tmp_path)
    for file in tmp_path.rglob("*.dcm"):
        plain = dicom_pixels(file)
        compress_dicom(file, SYNTAXES[syntax])
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(dicom_pixels(file), plain)
