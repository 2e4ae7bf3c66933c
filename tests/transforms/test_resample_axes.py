from __future__ import annotations

from itertools import permutations, product
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from transforms import ResampleAxesd, resample_axes

SHAPE, SPACING_MM = (21, 12, 17), (0.8, 0.6, 2.5)


def volume(affine: np.ndarray, shape: tuple[int, ...] = SHAPE) -> MetaTensor:
    values = torch.from_numpy(np.random.default_rng(1).normal(-300, 500, (2, *shape)))
    return MetaTensor(values.float(), torch.as_tensor(affine, dtype=torch.float64))


def spaced(ct: torch.Tensor, spacing_mm: tuple[float, ...]) -> Any:
    return Spacing(pixdim=spacing_mm, mode="bilinear", padding_mode="border")(ct)


def axes_affine(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING_MM[axis]
    affine[:3, 3] = (-40.0, 17.5, 310.25)
    return affine


def assert_same(ours: MetaTensor, theirs: MetaTensor) -> None:
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert torch.equal(ours.affine, theirs.affine)
    # 1e-3 HU is 1e-6 of the window that a network sees.
    assert torch.allclose(ours.as_tensor(), theirs.as_tensor(), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "spacing_mm",
    [(0.7, 0.7, 1.25), (3.0, 3.0, 3.0), (0.8, 0.6, 1.0), (0.81, 0.61, 2.47), (0.3, 9.0, 40.0)],
)
def test_it_is_monai_s_spacing(spacing_mm: tuple[float, ...]) -> None:
    affine = axes_affine((0, 1, 2), (1, 1, 1))
    ct = volume(affine)
    ct.meta["filename_or_obj"] = "scan.nii"
    before = ct.clone()
    ours = resample_axes(ct, spacing_mm)
    assert_same(ours, spaced(ct, spacing_mm))
    assert torch.equal(ct.as_tensor(), before.as_tensor()) and torch.equal(ct.affine, before.affine)
    assert ours.meta["filename_or_obj"] == "scan.nii"


def test_all_orientations() -> None:
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        ct = volume(axes_affine(order, signs))
        assert_same(resample_axes(ct, (1.0, 0.7, 1.25)), spaced(ct, (1.0, 0.7, 1.25)))


def test_a_linear_ramp_keeps_its_values_in_world_mm() -> None:
    affine = axes_affine((2, 0, 1), (-1, 1, 1))
    voxels = np.stack(list(np.indices(SHAPE)), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    ramp = MetaTensor(torch.from_numpy(world @ [3.0, -2.0, 1.0])[None], torch.from_numpy(affine))
    ours = resample_axes(ramp, (1.1, 0.5, 2.0))
    places = np.stack(list(np.indices(ours.shape[1:])), axis=-1)
    new = ours.affine.numpy()
    inner = (places @ new[:3, :3].T + new[:3, 3]) @ [3.0, -2.0, 1.0]
    inside = tuple(slice(0, size - 1) for size in ours.shape[1:])  # the last may lie in the border
    assert np.allclose(ours[0].numpy()[inside], inner[inside], atol=1e-3)


def test_turned_axes_are_separable_and_sheared_ones_are_monai_s() -> None:
    angle = np.deg2rad(17)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned = turn @ axes_affine((0, 1, 2), (1, -1, 1))
    tilted = axes_affine((0, 1, 2), (1, 1, 1))
    tilted[1, 2] = 0.6
    for affine, separable in ((turned, True), (tilted, False)):
        ct = volume(affine)
        expected = spaced(ct, (1.0, 1.0, 1.0))
        with patch("transforms.resample_axes._sample", side_effect=AssertionError) as sample:
            if separable:
                with pytest.raises(AssertionError):
                    resample_axes(ct, (1.0, 1.0, 1.0))
            else:
                resample_axes(ct, (1.0, 1.0, 1.0))
        assert sample.called == separable
        assert_same(resample_axes(ct, (1.0, 1.0, 1.0)), expected)


@pytest.mark.parametrize("spacing_mm", [SPACING_MM, (0.8005, 0.6, 2.5), (0.802, 0.602, 2.502)])
def test_a_spacing_that_is_nearly_there_is_monai_s_too(spacing_mm: tuple[float, ...]) -> None:
    ct = volume(axes_affine((0, 1, 2), (1, 1, 1)))
    assert_same(resample_axes(ct, spacing_mm), spaced(ct, spacing_mm))


def test_int16_a_single_voxel_and_two_dimensions() -> None:
    ct = volume(axes_affine((0, 1, 2), (1, 1, 1)), (1, 9, 1))
    assert_same(resample_axes(ct, (0.5, 0.5, 0.5)), spaced(ct, (0.5, 0.5, 0.5)))
    ct = volume(axes_affine((1, 0, 2), (1, -1, 1)))
    whole = MetaTensor(ct.as_tensor().to(torch.int16), ct.affine)
    assert_same(resample_axes(whole, (1.0, 1.0, 1.0)), spaced(whole.float(), (1.0, 1.0, 1.0)))
    flat = volume(np.diag([0.3, 0.4, 1.0, 1.0]), (14, 9))
    sample: dict[Any, Any] = {"image": flat, "risk": 1}
    out = ResampleAxesd("image", (0.8, 0.8))(sample)
    assert_same(out["image"], spaced(flat, (0.8, 0.8)))
    assert out["risk"] == 1
