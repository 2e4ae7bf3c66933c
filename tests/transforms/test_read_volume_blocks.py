from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from transforms import LoadScand, ScanError, load_scan
from transforms.read_volume import COLUMNS, SLICES, read_volume

SHAPE = (5, COLUMNS + 3, 2 * SLICES + 7)  # no axis a whole number of parts
AFFINE = np.diag([0.7, 0.8, 2.5, 1.0])


def stored(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(-200, 600, SHAPE)).astype(dtype)
    low = 0 if np.dtype(dtype).kind == "u" else -1000
    high = 120 if np.dtype(dtype).itemsize == 1 else 1400
    return rng.integers(max(low, np.iinfo(dtype).min), high, SHAPE).astype(dtype)


def write(
    path: Path, values: np.ndarray, slope: float | None = None, inter: float | None = None
) -> Path:
    """A file of these very values, whose header says how to scale them."""
    header = nib.Nifti1Header(endianness=">" if values.dtype.byteorder == ">" else "<")
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, AFFINE, header)
    image.header.set_slope_inter(slope, inter)
    if slope is None:
        nib.save(image, path)
        return path
    # nibabel would fit the values to the slope: they go in without one, the header afterwards.
    image.header.set_slope_inter(1, 0)
    raw = bytearray(image.to_bytes())
    order = ">" if values.dtype.byteorder == ">" else "<"
    raw[112:120] = np.array([slope, inter], f"{order}f4").tobytes()
    path.write_bytes(gzip.compress(raw, 1) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("scaling", [None, (1.0, 0.0), (1.0, -1024.0), (0.1, 7.3)])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "|u1", "<i4", ">f4", "<f8"])
def test_the_parts_are_what_nibabel_reads_at_once(
    tmp_path: Path, dtype: str, scaling: tuple[float, float] | None, suffix: str
) -> None:
    path = write(tmp_path / f"scan{suffix}", stored(dtype), *(scaling or (None, None)))
    image = nib.nifti1.load(path)
    array, affine = read_volume(path, 3)
    assert array.dtype == np.float32 and array.flags.c_contiguous
    assert np.array_equal(array, np.asarray(image.dataobj, np.float32))
    assert np.allclose(array, image.get_fdata(), rtol=1e-6)
    assert np.array_equal(affine, image.affine)


@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_plain_int16_stays_as_it_is_when_asked_to(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "scan.nii.gz", stored(dtype))
    kept, _ = read_volume(path, 3, keep_int16=True)
    assert kept.dtype == np.int16 and kept.dtype.isnative and kept.flags.c_contiguous
    assert np.array_equal(kept, stored(dtype))
    scan = LoadScand("image", keep_int16=True)({"image": path})["image"]
    assert scan.dtype == torch.int16 and load_scan(path).dtype == torch.float32
    assert torch.equal(scan.float().as_tensor(), load_scan(path).as_tensor())


@pytest.mark.parametrize(
    ("dtype", "scaling"), [("<i2", (1.0, -1024.0)), ("<u2", None), ("<f4", None)]
)
def test_all_else_becomes_float32(
    tmp_path: Path, dtype: str, scaling: tuple[float, float] | None
) -> None:
    path = write(tmp_path / "scan.nii", stored(dtype), *(scaling or (None, None)))
    kept, _ = read_volume(path, 3, keep_int16=True)
    assert kept.dtype == np.float32 and np.array_equal(kept, read_volume(path, 3)[0])


@pytest.mark.parametrize("missing", [20, SHAPE[0] * SHAPE[1] * 2 * 3 + 1])
def test_a_file_cut_off_in_its_last_part_is_refused(tmp_path: Path, missing: int) -> None:
    path = write(tmp_path / "scan.nii", stored("<i2"))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ScanError, match=r"scan\.nii: must be readable and complete"):
        read_volume(path, 3)
