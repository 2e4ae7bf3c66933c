from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import (
    CropToLungsd,
    FindLungsd,
    LungSideMaskd,
    ScanError,
    find_lungs,
    load_scan,
    lung_side_mask,
)


def test_labels_from_hu_on_the_scans_grid(chest: Any) -> None:
    ct = chest.ct()
    lungs = find_lungs(ct)
    assert lungs.shape == ct.shape and lungs.dtype == torch.uint8
    assert torch.equal(lungs.affine, ct.affine)
    for label, side in ((1, "left"), (2, "right")):
        mask = lungs.as_tensor() == label
        assert torch.equal(mask, lung_side_mask(ct, side).as_tensor() > 0)
        drawn = torch.from_numpy(chest.lungs == label)
        assert 2 * (mask[0] & drawn).sum() / (mask.sum() + drawn.sum()) > 0.97


def test_a_given_map_is_taken_as_it_is_and_checked(chest: Any) -> None:
    ct = chest.ct()
    given = MetaTensor(torch.from_numpy(chest.lungs)[None], ct.affine)
    out = FindLungsd(lungs_key="theirs", output_key="lungs")({"image": ct, "theirs": given})
    assert out["lungs"] is given
    with pytest.raises(ScanError, match="the shape must be that of"):
        FindLungsd(lungs_key="lungs")({"image": ct, "lungs": given[..., :9]})


def test_without_a_key_a_datalists_path_is_no_map(chest: Any) -> None:
    ct = chest.ct()
    for transform in (FindLungsd(), FindLungsd(lungs_key="theirs")):
        out = transform({"image": ct, "lungs": "lungs/a.nii.gz"})
        assert torch.equal(out["lungs"], find_lungs(ct))


def test_no_lung_gives_an_empty_map() -> None:
    ct = MetaTensor(torch.full((1, 16, 12, 10), 40.0), torch.diag(torch.tensor([4.0, 4, 4, 1])))
    assert not find_lungs(ct).any()


def test_all_that_need_lungs_share_them(chest: Any) -> None:
    sample = {"image": chest.ct(), "side": "right"}
    keys = ("image", "side_mask")
    apart = CropToLungsd(keys)(LungSideMaskd()(sample))
    found = FindLungsd()(sample)
    with patch("transforms.find_lungs.segment_lungs", side_effect=AssertionError("found twice")):
        shared = CropToLungsd(keys, lungs_key="lungs")(LungSideMaskd(lungs_key="lungs")(found))
    for key in keys:
        assert torch.equal(shared[key], apart[key])
        assert torch.equal(shared[key].affine, apart[key].affine)


def test_real_lungs_are_found_once_for_all(shared_data: Path) -> None:
    ct = load_scan(shared_data / "cip" / "ct-64.nii.gz")
    lungs = find_lungs(ct).as_tensor()
    for label, side in ((1, "left"), (2, "right")):
        assert np.array_equal(lungs == label, lung_side_mask(ct, side).as_tensor() > 0)
        assert (lungs == label).any()
