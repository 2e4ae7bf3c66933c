from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import CropToLungsd, ScanError


def volume(array: np.ndarray, affine: np.ndarray) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(array))[None]
    return MetaTensor(values, torch.as_tensor(affine, dtype=torch.float64))


def world_of(mask: MetaTensor) -> np.ndarray:
    voxels = mask.as_tensor()[0].nonzero().numpy()
    return voxels @ mask.affine[:3, :3].numpy().T + mask.affine[:3, 3].numpy()


def test_crops_all_keys_to_the_lungs_and_keeps_them_in_place(chest: Any) -> None:
    nodule = volume(chest.nodule.astype(np.uint8), chest.affine)
    sample = {"image": chest.ct(), "mask": nodule, "risk": 1}
    out = CropToLungsd(("image", "mask"), margin_mm=8, divisor=(8, 8, 4))(sample)
    sizes = out["image"].shape[1:]
    assert out["mask"].shape == out["image"].shape and out["risk"] == 1
    assert all(size % by == 0 for size, by in zip(sizes, (8, 8, 4), strict=True))
    assert all(size < full for size, full in zip(sizes, chest.hu.shape, strict=True))
    assert np.allclose(world_of(out["mask"]), world_of(nodule))
    start = np.round((out["image"].affine[:3, 3].numpy() - chest.affine[:3, 3]) / 4).astype(int)
    window = tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))
    assert np.array_equal(out["image"][0].numpy(), chest.hu[window])
    assert chest.lungs[window].sum() == chest.lungs.sum()
    lungs = np.argwhere(chest.lungs > 0)
    # At least the margin, at most that and the rounding and the closing of the lungs.
    assert (lungs.min(axis=0) - start >= 1).all()
    assert (start + sizes - 1 - lungs.max(axis=0) <= 2 + 8 + 2).all()


def test_a_given_mask_sets_the_box_exactly() -> None:
    image = MetaTensor(torch.zeros(1, 20, 20, 20), torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0])))
    lungs = MetaTensor(torch.zeros(1, 20, 20, 20), image.affine)
    lungs[:, 8:11, 8:11, 16:19] = 2
    crop = CropToLungsd(("image", "lungs"), margin_mm=4, divisor=(1, 1, 1), lungs_key="lungs")
    out = crop({"image": image, "lungs": lungs})
    # 4 mm are 4, 2 and 1 voxels; the last axis ends one voxel behind the lungs.
    assert out["lungs"].shape == (1, 11, 7, 5)
    assert out["image"].affine[:3, 3].tolist() == [4, 12, 60]
    by_eight = CropToLungsd(("image",), margin_mm=4, divisor=(8, 8, 8), lungs_key="lungs")
    out = by_eight({"image": image, "lungs": lungs})
    assert out["image"].shape == (1, 16, 8, 8)
    # Shifted to stay inside: the last axis starts at 12, not at 15.
    assert out["image"].affine[:3, 3].tolist() == [4, 12, 48]
    with pytest.raises(ScanError, match="the shape must be that of"):
        by_eight({"image": image, "lungs": lungs[..., :9]})


def test_a_scan_too_short_to_divide_is_padded_with_air() -> None:
    image = MetaTensor(torch.ones(1, 5, 8, 8))
    lungs = MetaTensor(torch.ones(1, 5, 8, 8))
    crop = CropToLungsd(("image", "lungs"), divisor=(4, 4, 4), lungs_key="lungs")
    out = crop({"image": image, "lungs": lungs})
    assert out["image"].shape == (1, 8, 8, 8)
    assert (out["image"][:, 5:] == -1024).all() and (out["image"][:, :5] == 1).all()
    assert (out["lungs"][:, 5:] == 0).all()
    assert torch.equal(out["image"].affine, image.affine)


def test_no_lungs_keeps_the_whole_scan(caplog: pytest.LogCaptureFixture) -> None:
    image = MetaTensor(torch.full((1, 16, 32, 16), 40.0), meta={"filename_or_obj": "scan.nii"})
    with caplog.at_level(logging.WARNING):
        out = CropToLungsd("image")({"image": image})
    assert torch.equal(out["image"].as_tensor(), image.as_tensor())
    assert "scan.nii: no lungs found" in caplog.text


def test_refuses_settings() -> None:
    with pytest.raises(ValueError, match=r"margin_mm must be at least 0 .* got -1"):
        CropToLungsd("image", margin_mm=-1)
    with pytest.raises(ValueError, match=r"divisor at least 1, got .* \(0, 1, 1\)"):
        CropToLungsd("image", divisor=(0, 1, 1))
