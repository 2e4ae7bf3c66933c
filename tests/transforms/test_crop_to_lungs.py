from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import CropToLungsd, ScanError, find_lungs, segment_lungs
from transforms.crop_to_lungs import lungs_box


def volume(array: np.ndarray, affine: np.ndarray) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(array))[None]
    return MetaTensor(values, torch.as_tensor(affine, dtype=torch.float64))


def world_of(mask: MetaTensor) -> np.ndarray:
    voxels = mask.as_tensor()[0].nonzero().numpy()
    return voxels @ mask.affine[:3, :3].numpy().T + mask.affine[:3, 3].numpy()


def test_crops_all_keys_to_the_lungs_and_keeps_them_in_place(chest: Any) -> None:
    nodule = volume(chest.nodule.astype(np.uint8), chest.affine)
    sample = {"image": chest.ct(), "mask": nodule, "risk": 1}
    out = CropToLungsd(("image", "mask"), margin_mm=8)(sample)
    sizes = out["image"].shape[1:]
    assert out["mask"].shape == out["image"].shape and out["risk"] == 1
    assert all(size < full for size, full in zip(sizes, chest.hu.shape, strict=True))
    assert np.allclose(world_of(out["mask"]), world_of(nodule))
    start = np.round((out["image"].affine[:3, 3].numpy() - chest.affine[:3, 3]) / 4).astype(int)
    window = tuple(slice(a, a + n) for a, n in zip(start, sizes, strict=True))
    assert np.array_equal(out["image"][0].numpy(), chest.hu[window])
    assert chest.lungs[window].sum() == chest.lungs.sum()
    lungs = np.argwhere(chest.lungs > 0)
    # The margin of 2 voxels, and one more or less for the lungs found from HU.
    assert (abs(lungs.min(axis=0) - start - 2) <= 1).all()
    assert (abs(start + sizes - 1 - lungs.max(axis=0) - 2) <= 1).all()


def test_a_given_label_map_sets_the_box_exactly() -> None:
    image = MetaTensor(torch.zeros(1, 20, 20, 20), torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0])))
    lungs = MetaTensor(torch.zeros(1, 20, 20, 20), image.affine)
    lungs[:, 8, 8:11, 16:19] = 1
    lungs[:, 10, 8:11, 16:19] = 2
    crop = CropToLungsd(("image", "lungs"), margin_mm=4, lungs_key="lungs")
    out = crop({"image": image, "lungs": lungs})
    # 4 mm are 4, 2 and 1 voxels; the last axis ends with the scan, one voxel behind the lungs.
    assert out["lungs"].shape == (1, 11, 7, 5)
    assert out["image"].affine[:3, 3].tolist() == [4, 12, 60]
    with pytest.raises(ScanError, match="the shape must be that of"):
        crop({"image": image, "lungs": lungs[..., :9]})


@pytest.mark.parametrize(
    ("label", "side", "tissue_from", "share"),
    [(1, "left", 0, "0 %"), (2, "right", 0, "0 %"), (1, "left", 20, "1. %")],
    ids=["left white", "right white", "left mostly white"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_lung_that_is_missing_or_small_keeps_the_body_s_full_width(
    chest: Any,
    caplog: pytest.LogCaptureFixture,
    label: int,
    side: str,
    tissue_from: int,
    share: str,
    turned: bool,
) -> None:
    solid = (chest.lungs == label) & (np.arange(64) >= tissue_from)
    hu, lungs = np.where(solid, 30, chest.hu), chest.lungs
    affine, width = chest.affine, 0
    if turned:
        hu, lungs = np.swapaxes(hu, 0, 2)[::-1], np.swapaxes(lungs, 0, 2)[::-1]
        affine, width = affine[:, [2, 1, 0, 3]].copy(), 2
        affine[:3, 3] += affine[:3, 0] * (hu.shape[0] - 1)
        affine[:3, 0] *= -1
    image = volume(hu, affine)
    image.meta["filename_or_obj"] = "scan.nii"
    sample = {"image": image, "lungs": volume(lungs, affine)}
    with caplog.at_level(logging.WARNING):
        out = CropToLungsd(("image", "lungs"), margin_mm=0)(sample)
    assert re.search(rf"scan\.nii: the {side} lung has {share} of the other's volume", caplog.text)
    assert out["image"].shape[1:][width] == len(np.flatnonzero((chest.hu > -400).any((1, 2))))
    assert all(out["image"].shape[1 + a] < hu.shape[a] for a in range(3))
    lost = (lungs == label).sum() - (out["lungs"] == label).sum()
    assert lost / (lungs == label).sum() < 0.1


def test_lungs_of_unequal_size_are_cropped_as_they_are(
    chest: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lungs = np.where((chest.lungs == 1) & (np.arange(64) > 32), 0, chest.lungs)
    sample = {"image": chest.ct(), "lungs": volume(lungs, chest.affine)}
    with caplog.at_level(logging.WARNING):
        out = CropToLungsd("image", margin_mm=0, lungs_key="lungs")(sample)
    found = np.argwhere(lungs > 0)
    assert out["image"].shape[1:] == tuple(found.max(axis=0) - found.min(axis=0) + 1)
    assert not caplog.text


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_coarse_map_gives_the_box_of_the_whole_one(chest: Any, missing: int) -> None:
    # Voxels of 1.25 x 1.5 x 4 mm, so that a coarse cell holds about 3 x 2 x 1 of them.
    sizes, parts = (301, 187, 64), (13, 11, 4)
    picked = np.ix_(*(np.arange(size) * 4 // n for size, n in zip(sizes, parts, strict=True)))
    hu = np.where(chest.lungs == missing, 30, chest.hu) if missing else chest.hu
    image = volume(hu[picked], np.diag([1.25, 1.5, 4.0, 1.0]))
    box = lungs_box(segment_lungs(image), image)
    assert box == lungs_box(find_lungs(image), image)
    whole = find_lungs(image)[0].numpy() > 0
    for axis, (start, stop) in enumerate(box):
        found = np.flatnonzero(whole.any(axis=tuple({0, 1, 2} - {axis})))
        exact = (start, stop) == (found[0], found[-1] + 1)
        assert exact if not (missing and axis == 0) else start < found[0] or stop > found[-1] + 1


def test_no_lungs_keeps_the_whole_scan(caplog: pytest.LogCaptureFixture) -> None:
    image = MetaTensor(torch.full((1, 16, 32, 16), 40.0), meta={"filename_or_obj": "scan.nii"})
    with caplog.at_level(logging.WARNING):
        out = CropToLungsd("image")({"image": image})
    assert torch.equal(out["image"].as_tensor(), image.as_tensor())
    assert "scan.nii: no lungs found" in caplog.text


def test_refuses_settings() -> None:
    with pytest.raises(ValueError, match="margin_mm must be at least 0, got -1"):
        CropToLungsd("image", margin_mm=-1)
