from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from handlers.save_map import save_map

OBLIQUE = torch.tensor(
    [[0.0, 1.9, 0.3, -7], [-2.0, 0.1, 0.0, 11], [0.1, -0.3, 2.9, 5], [0, 0, 0, 1]]
)


def test_values_and_geometry_come_back(tmp_path):
    values = torch.rand(1, 5, 6, 7) * 300
    values[0, 0] = 0
    save_map(MetaTensor(values, affine=OBLIQUE), tmp_path / "a.nii.gz")
    image = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(image.get_fdata(), values[0], atol=300 / 32767 / 2 * 1.01)
    assert (image.get_fdata()[0] == 0).all()
    assert image.header.get_xyzt_units()[0] == "mm"
    assert [image.header["sform_code"], image.header["qform_code"]] == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_a_map_of_zeros_stays_zero(tmp_path):
    save_map(MetaTensor(torch.zeros(1, 2, 3, 4)), tmp_path / "a.nii.gz")
    assert not nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").get_fdata().any()


def test_a_2d_map_keeps_its_shape(tmp_path):
    save_map(MetaTensor(torch.ones(1, 4, 3)), tmp_path / "a.nii.gz")
    assert nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").shape == (4, 3)


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    save_map(MetaTensor(torch.ones(1, 2, 2, 2)), path)
    before = path.read_bytes()

    def full_disk(_image, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_map(MetaTensor(torch.zeros(1, 2, 2, 2)), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii.gz"]
