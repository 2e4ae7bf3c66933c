from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import ITKReader, ITKWriter
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from transforms import LoadMaskd, LoadScand, ScanError, load_mask, load_scan

SHAPE = (12, 10, 6)
SPACING_MM = (0.7, 0.9, 2.5)
SERIES = generate_uid(entropy_srcs=["series"])


def hu() -> np.ndarray:
    return np.random.default_rng(5).integers(-1000, 300, SHAPE).astype(np.float32)


def slice_affine() -> np.ndarray:
    """RAS affine of the series that ``write_series`` writes: x and y fall, z rises."""
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    affine[:3, 3] = (100, 90, -300)
    return affine


def slice_dataset(values: np.ndarray, z: int) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = SERIES, "CT"
    dataset.Rows, dataset.Columns = values.shape[1], values.shape[0]
    dataset.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-100, -90, -300 + SPACING_MM[2] * z]
    dataset.SliceThickness = 7
    dataset.InstanceNumber = 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -1024
    dataset.PixelData = ((values.T + 1024) * 2).astype("<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def write_series(
    folder: Path, change: Callable[[int, pydicom.Dataset], object] = lambda z, dataset: None
) -> Path:
    """File names run against the positions, and SliceThickness is wrong, as happens."""
    folder.mkdir()
    (folder / "LICENSE.txt").write_text("no DICOM")
    for z, values in enumerate(np.moveaxis(hu(), 2, 0)):
        dataset = slice_dataset(values, z)
        change(z, dataset)
        dataset.save_as(folder / f"{9 - z}.dcm", enforce_file_format=True)
    return folder


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def test_nifti_metaimage_and_dicom_give_the_same_scan(tmp_path: Path) -> None:
    from_nifti = load_scan(write_nifti(tmp_path / "a.nii.gz", hu(), slice_affine()))
    writer = ITKWriter(output_dtype=np.float32)
    writer.set_data_array(hu()[None], channel_dim=0)
    writer.set_metadata({"affine": slice_affine()}, resample=False)
    writer.write(str(tmp_path / "a.mhd"))
    from_metaimage = load_scan(tmp_path / "a.mhd")
    from_dicom = load_scan(write_series(tmp_path / "series"))
    for scan in (from_nifti, from_metaimage, from_dicom):
        assert scan.dtype == torch.float32 and np.array_equal(scan[0].numpy(), hu())
        assert np.allclose(scan.affine, slice_affine(), atol=1e-5)
        assert set(scan.meta) == set(from_nifti.meta)
    assert from_dicom.meta["filename_or_obj"] == str(tmp_path / "series")


def test_an_oblique_affine_and_a_trailing_axis_of_one_are_kept(tmp_path: Path) -> None:
    affine = slice_affine()
    affine[:3, :3] = affine[:3, :3] @ np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    scan = load_scan(write_nifti(tmp_path / "a.nii", hu()[..., None], affine))
    assert scan.shape == (1, *SHAPE) and np.allclose(scan.affine, affine, atol=1e-6)


def test_gantry_tilt_is_in_the_affine(tmp_path: Path) -> None:
    def tilt(z: int, dataset: pydicom.Dataset) -> None:
        dataset.ImagePositionPatient = [-100, -90 + 0.4 * z, -300 + SPACING_MM[2] * z]

    affine = load_scan(write_series(tmp_path / "series", tilt)).affine.numpy()
    assert np.allclose(affine[:3, 2], (0, -0.4, 2.5))


def test_padding_of_2048_is_normal(tmp_path: Path) -> None:
    array = hu()
    array[0] = -2048
    assert load_scan(write_nifti(tmp_path / "a.nii", array, slice_affine())).min() == -2048


def _changed(value: float) -> np.ndarray:
    array = hu()
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (_changed(np.nan), "finite, got 1 NaN or infinite"),
        (_changed(np.inf), "finite, got 1 NaN or infinite"),
        (np.clip(hu(), 0, 255), "air below -500 and tissue above it, got values from 0 to 255"),
        (hu() / 1000, "air below -500"),
        (np.full(SHAPE, -1000, np.float32), "got values from -1000 to -1000"),
        (_changed(1e6), "HU must lie within -32768 and 32767, got .* to 1e"),
        (hu()[..., 0], r"must have 3 dimensions, got shape \(12, 10\)"),
        (np.stack([hu()] * 2, -1), r"must have 3 dimensions, got shape \(12, 10, 6, 2\)"),
    ],
)
def test_refuses_values_and_shapes(tmp_path: Path, array: np.ndarray, rule: str) -> None:
    path = write_nifti(tmp_path / "scan.nii.gz", array, slice_affine())
    with pytest.raises(ScanError, match=rf"scan\.nii\.gz: .*{rule}") as caught:
        load_scan(path)
    assert "\n" not in str(caught.value)


def test_a_nifti_without_an_affine_is_refused_in_3d_only(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    for array, spatial_dims in ((hu(), 3), (hu()[..., 0], 2)):
        image = nib.Nifti1Image(array, slice_affine())
        image.set_sform(slice_affine(), code=0)
        image.set_qform(slice_affine(), code=0)
        nib.save(image, path)
        if spatial_dims == 2:
            assert load_scan(path, spatial_dims=2).shape == (1, *SHAPE[:2])
            continue
        rule = r"scan\.nii\.gz: sform or qform must be set, got codes 0 and 0"
        for load in (load_scan, load_mask):
            with pytest.raises(ScanError, match=rule):
                load(path)
        image.set_qform(slice_affine(), code=1)
        nib.save(image, path)
        assert np.allclose(load_scan(path).affine, slice_affine(), atol=1e-5)


def _with_zero_spacing(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[84:88] = np.float32(0).tobytes()  # pixdim[2]
    path.write_bytes(content)


def _with_singular_affine(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[296:312] = content[280:296]  # srow_y = srow_x
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda path: path.unlink(), "must exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "readable and complete"),
        (lambda path: path.write_bytes(b"no image"), "readable and complete"),
        (lambda path: path.write_bytes(b""), "readable and complete"),
        (_with_zero_spacing, "spacing must be above zero and finite, got 0.7 x 0 x 2.5 mm"),
        (_with_singular_affine, "(affine must be invertible|spacing must be above zero)"),
    ],
)
def test_refuses_damaged_nifti(tmp_path: Path, damage: Callable, rule: str) -> None:
    path = write_nifti(tmp_path / "scan.nii", hu(), slice_affine())
    damage(path)
    with pytest.raises(ScanError, match=rf"scan\.nii: .*{rule}") as caught:
        load_scan(path)
    assert "\n" not in str(caught.value)


def test_refuses_a_truncated_gzip_and_metaimage(tmp_path: Path) -> None:
    whole = write_nifti(tmp_path / "whole.nii", hu(), slice_affine()).read_bytes()
    packed = tmp_path / "scan.nii.gz"
    packed.write_bytes(gzip.compress(whole)[:-400])
    with pytest.raises(ScanError, match=r"scan\.nii\.gz: must be readable and complete"):
        load_scan(packed)
    header = "ObjectType = Image\nNDims = 3\nDimSize = 12 10 6\nElementType = MET_SHORT\n"
    (tmp_path / "scan.mhd").write_text(header + "ElementDataFile = scan.raw\n")
    (tmp_path / "scan.raw").write_bytes(b"\0" * 100)
    with pytest.raises(ScanError, match=r"scan\.mhd: must be readable and complete"):
        load_scan(tmp_path / "scan.mhd")
    (tmp_path / "scan.mhd").write_text(
        header + "ElementSpacing = 1 0 1\nElementDataFile = scan.raw\n"
    )
    (tmp_path / "scan.raw").write_bytes(hu().astype("<i2").tobytes())
    with pytest.raises(ScanError, match=r"scan\.mhd: "):
        load_scan(tmp_path / "scan.mhd")


def test_refuses_other_suffixes_dimensions_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(b"png")
    with pytest.raises(ScanError, match=r"scan\.png: must be a .*, got \.png"):
        load_scan(tmp_path / "scan.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScanError, match="must hold DICOM files, got none"):
        load_scan(tmp_path / "empty")
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 4"):
        load_scan(tmp_path, 4)


def _at(z: int, **values: object) -> Callable[[int, pydicom.Dataset], None]:
    def change(index: int, dataset: pydicom.Dataset) -> None:
        if index == z:
            for name, value in values.items():
                setattr(dataset, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_at(2, SeriesInstanceUID="1.2.3"), r"one series, got 2: .* \(5 files\), 1\.2\.3"),
        (_at(2, ImagePositionPatient=[-100, -90, -297.5]), "own position, got .*297"),
        (_at(5, ImagePositionPatient=[-100, -90, -285]), r"evenly spaced \(2\.500 mm\).* 5\.000"),
        (_at(3, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "ImageOrientationPatient must be"),
        (_at(3, PixelSpacing=[1, 1]), "PixelSpacing must be that of"),
        (_at(3, ImagePositionPatient=[-80, -90, -292.5]), "straight line"),
        (_at(0, Modality="PT"), "Modality must be CT, got PT"),
        (_at(4, RescaleIntercept=None), "RescaleIntercept must be given"),
        (_at(4, PixelData=b"\0\0"), r"5\.dcm: its pixels must be readable"),
        (_at(4, PhotometricInterpretation="MONOCHROME1"), "one MONOCHROME2 frame"),
    ],
)
def test_refuses_a_series_that_is_not_whole(tmp_path: Path, change: Callable, rule: str) -> None:
    with pytest.raises(ScanError, match=rule) as caught:
        load_scan(write_series(tmp_path / "series", change))
    assert "\n" not in str(caught.value) and "series" in str(caught.value)


def test_refuses_cut_off_and_missing_dicom_files(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    (folder / "7.dcm").rename(tmp_path / "7.dcm")
    with pytest.raises(ScanError, match=r"gap of 5\.000 mm between 8\.dcm and 6\.dcm"):
        load_scan(folder)
    content = (tmp_path / "7.dcm").read_bytes()
    for kept, rule in ((50, "must hold DICOM"), (300, "7.dcm: "), (len(content) - 9, "pixels")):
        (folder / "7.dcm").write_bytes(content[:kept])
        with pytest.raises(ScanError, match=rule):
            load_scan(folder)


def test_two_dimensions(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    image = load_scan(folder / "9.dcm", spatial_dims=2)
    assert np.array_equal(image[0].numpy(), hu()[..., 0])
    assert np.allclose(image.affine[:3, :2], slice_affine()[:3, :2])
    flat = np.linspace(0, 4095, 120, dtype=np.float32).reshape(12, 10)
    path = write_nifti(tmp_path / "mammogram.nii.gz", flat, np.eye(4))
    assert np.array_equal(load_scan(path, spatial_dims=2)[0].numpy(), flat)
    with pytest.raises(ScanError, match="must have 2 dimensions"):
        load_scan(write_nifti(tmp_path / "a.nii", hu(), np.eye(4)), spatial_dims=2)
    with pytest.raises(ScanError, match="at least 2 slices, got 1"):
        load_scan(folder / "9.dcm")


def test_masks(tmp_path: Path) -> None:
    labels = (hu() > 0).astype(np.uint16) * 300
    path = write_nifti(tmp_path / "mask.nii.gz", labels, slice_affine())
    mask = load_mask(path)
    assert mask.dtype == torch.int16 and np.array_equal(mask[0].numpy(), labels)
    for wrong in (labels + 0.5, labels - 1.0, labels * 200.0):
        write_nifti(path, wrong.astype(np.float32), slice_affine())
        with pytest.raises(ScanError, match=r"mask\.nii\.gz: labels must be whole numbers"):
            load_mask(path)


def test_the_maps_replace_paths(tmp_path: Path) -> None:
    scan = write_nifti(tmp_path / "scan.nii.gz", hu(), slice_affine())
    mask = write_nifti(tmp_path / "mask.nii.gz", (hu() > 0).astype(np.uint8), slice_affine())
    sample = LoadMaskd("mask")(LoadScand("image")({"image": scan, "mask": str(mask), "risk": 1}))
    assert sample["image"].shape == sample["mask"].shape and sample["risk"] == 1
    assert "image" not in LoadScand("image", allow_missing_keys=True)({"risk": 1})


def test_a_whole_real_series_equals_itk(shared_data: Path, tmp_path: Path) -> None:
    with ZipFile(shared_data / "lung-pet-ct-dx" / "A0001_series3_5mm.zip") as archive:
        archive.extractall(tmp_path)
    folder = next(path.parent for path in tmp_path.rglob("*.dcm"))
    scan = load_scan(folder)
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    assert np.array_equal(scan[0].numpy(), array)
    assert meta["space"] == "RAS" and np.allclose(scan.affine, meta["affine"], atol=1e-4)


def test_real_dicom_slices_equal_the_nifti_of_the_same_scan(
    shared_data: Path, tmp_path: Path
) -> None:
    with ZipFile(shared_data / "lidc1011" / "LIDC-IDRI-1011_dicom_excerpt.zip") as archive:
        archive.extractall(tmp_path)
    excerpt = load_scan(next(path.parent for path in tmp_path.rglob("*.dcm")))
    whole = load_scan(shared_data / "lidc1011" / "LIDC-IDRI-1011.nii.gz")
    offset = (torch.linalg.inv(whole.affine) @ excerpt.affine).numpy()
    assert np.allclose(offset[:3, :3], np.eye(3), atol=1e-4)
    first = round(offset[2, 3])
    assert np.allclose(offset[:3, 3], (0, 0, first), atol=1e-2)
    part = whole[0, :, :, first : first + excerpt.shape[-1]]
    inside = part > -2048
    assert torch.equal(excerpt[0][inside], part[inside])
