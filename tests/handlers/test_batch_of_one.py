from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Flip

from handlers import batch_of_one


def test_it_is_monai_s_batch_without_a_copy() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    values = torch.arange(60, dtype=torch.int16).reshape(1, 3, 4, 5)
    scan = MetaTensor(values, affine, {"filename_or_obj": "scan.nii"})
    sample: dict[str, Any] = {
        "image": Flip(0)(scan.float()),
        "scan": scan,
        "source": "scan.nii",
        "risk": 1,
    }
    ours, theirs = batch_of_one([sample]), list_data_collate([sample])
    assert list(ours) == list(theirs)
    assert ours["source"] == theirs["source"] and torch.equal(ours["risk"], theirs["risk"])
    for key in ("image", "scan"):
        assert ours[key].is_batch and torch.equal(ours[key], theirs[key])
        assert ours[key].applied_operations == theirs[key].applied_operations
        assert ours[key].data_ptr() == sample[key].data_ptr()
        one, other = ours[key][0], theirs[key][0]
        assert one.dtype == other.dtype and torch.equal(one.affine, other.affine)
        assert one.meta["filename_or_obj"] == other.meta["filename_or_obj"] == "scan.nii"


def test_refuses_other_numbers_of_samples() -> None:
    for samples in ([], [{"risk": 1}] * 2):
        with pytest.raises(ValueError, match=f"must be one sample, got {len(samples)}"):
            batch_of_one(samples)
