from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from transforms import CheckGeometryd, ScanError

AFFINE = torch.diag(torch.tensor([0.7, 0.7, 2.5, 1.0], dtype=torch.float64))


def volume(shape: tuple[int, ...], name: str, affine: torch.Tensor = AFFINE) -> MetaTensor:
    return MetaTensor(torch.zeros(1, *shape), affine, {"filename_or_obj": name})


def test_passes_the_same_grid_within_rounding() -> None:
    sample = {
        "image": volume((9, 8, 7), "scan.nii"),
        "mask": volume((9, 8, 7), "mask.nii", AFFINE + 1e-6),
    }
    assert CheckGeometryd("mask", "image")(sample).keys() == sample.keys()
    assert CheckGeometryd("lungs", "image", allow_missing_keys=True)(sample)
    flat = {"image": volume((9, 8), "scan.nii"), "mask": volume((9, 8), "mask.nii")}
    assert CheckGeometryd("mask", "image")(flat)


def test_refuses_another_shape() -> None:
    sample = {"image": volume((9, 8, 7), "scan.nii"), "mask": volume((9, 8, 6), "mask.nii")}
    match = r"mask\.nii: the shape must be that of scan\.nii, got \(9, 8, 6\) and \(9, 8, 7\)"
    with pytest.raises(ScanError, match=match):
        CheckGeometryd("mask", "image")(sample)


@pytest.mark.parametrize("entry", [(0, 0), (1, 0), (2, 2), (0, 3), (2, 3)])
def test_refuses_another_affine(entry: tuple[int, int]) -> None:
    moved = AFFINE.clone()
    moved[entry] += 0.1
    sample = {
        "image": volume((9, 8, 7), "scan.nii"),
        "mask": volume((9, 8, 7), "mask.nii", moved),
    }
    match = r"mask\.nii: the affine must be that of scan\.nii, got corners 0\.\d+ mm apart"
    with pytest.raises(ScanError, match=match):
        CheckGeometryd("mask", "image")(sample)
    moved[entry] = float("nan")
    with pytest.raises(ScanError, match="nan mm apart"):
        CheckGeometryd("mask", "image")({**sample, "mask": volume((9, 8, 7), "m.nii", moved)})
