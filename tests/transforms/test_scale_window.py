from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRanged

from transforms import ScaleWindowd, ShareItemd, scale_window


def ct(dtype: torch.dtype) -> MetaTensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-2048, 3000, (1, 7, 6, 5), generator=generator).to(dtype)
    values[0, 0, 0, :4] = torch.tensor([-32768, 32767, -1000, 400]).to(dtype)
    affine = torch.diag(torch.tensor([0.7, 0.7, 1.25, 1.0], dtype=torch.float64))
    return MetaTensor(values, affine, {"filename_or_obj": "scan.nii"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_the_window_is_monai_s_bit_for_bit(dtype: torch.dtype) -> None:
    image = ct(dtype)
    monai = ScaleIntensityRanged("image", a_min=-1000, a_max=400, b_min=0, b_max=1, clip=True)
    expected = monai({"image": image.float()})["image"]
    sample: dict[Any, Any] = {"image": image, "risk": 1}
    out = ScaleWindowd("image", low=-1000, high=400)(sample)["image"]
    assert out.dtype == torch.float32 and torch.equal(out.as_tensor(), torch.as_tensor(expected))
    assert torch.equal(out.affine, image.affine) and out.meta["filename_or_obj"] == "scan.nii"
    assert torch.equal(image.as_tensor(), ct(dtype).as_tensor())  # untouched
    assert out[0, 0, 0, :4].tolist() == [0, 1, 0, 1]


def test_refuses_an_empty_window() -> None:
    with pytest.raises(ValueError, match="low must be below high, got 400 and -1000"):
        scale_window(ct(torch.float32), 400, -1000)


def test_a_shared_item_has_the_same_values_and_its_own_metadata() -> None:
    image = ct(torch.int16)
    out = ShareItemd("image", "scan")({"image": image})
    assert out["scan"].data_ptr() == image.data_ptr() and torch.equal(out["scan"], image)
    out["scan"].meta["filename_or_obj"] = "other.nii"
    out["scan"].affine[0, 3] = 9.0
    assert image.meta["filename_or_obj"] == "scan.nii" and image.affine[0, 3] == 0
