from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, RandGaussianSmooth

from transforms.gaussian_smooth import RandSmoothd, gaussian_smooth

RANGE = (0.25, 0.8)


def image(*shape: int) -> MetaTensor:
    values = np.random.default_rng(len(shape)).random((1, *shape)).astype(np.float32)
    return MetaTensor(torch.from_numpy(values), torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0])))


@pytest.mark.parametrize("shape", [(9, 11, 13), (2, 1, 40), (12, 15), (7,)])
@pytest.mark.parametrize("sigma", [0.25, 0.37, 0.63, 0.8, 2.5])
def test_equals_monais(shape: tuple[int, ...], sigma: float) -> None:
    sigmas = [sigma, 0.4, 0.7][: len(shape)]
    given = image(*shape)
    kept = given.clone()
    smooth = gaussian_smooth(given, sigmas)
    assert smooth.dtype == torch.float32 and torch.equal(smooth.affine, given.affine)
    torch.testing.assert_close(
        smooth.as_tensor(), GaussianSmooth(sigmas)(given).as_tensor(), atol=1e-6, rtol=0
    )
    assert torch.equal(given, kept)


def test_a_point_by_hand() -> None:
    point = MetaTensor(torch.zeros(1, 5))
    point[0, 2] = 2
    # Shares of a unit Gaussian at sigma 0.25 that fall beyond half a voxel: 2.275 % on each side.
    expected = torch.tensor([[0, 0.0455, 1.909, 0.0455, 0]])
    found = gaussian_smooth(point, [0.25]).as_tensor()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(8, 9, 10), (8, 9)])
def test_draws_as_monais_with_the_same_seed(shape: tuple[int, ...]) -> None:
    ours = RandSmoothd("image", sigma_voxel=RANGE, prob=0.4)
    theirs = RandGaussianSmooth(RANGE, RANGE, RANGE, prob=0.4)
    given = image(*shape)
    sample: dict[Any, Any] = {"image": given, "mask": "kept"}
    changed = 0
    for seed in range(30):
        ours.set_random_state(seed)
        theirs.set_random_state(seed)
        found, wanted = ours(sample), theirs(given)
        torch.testing.assert_close(
            np.asarray(found["image"]), np.asarray(wanted), atol=1e-6, rtol=0
        )
        assert found["mask"] == "kept"
        changed += not torch.equal(found["image"], given)
    assert 5 <= changed <= 20


def test_refuses() -> None:
    with pytest.raises(ValueError, match="sigma_voxel must be 3 numbers above 0, got \\[1\\]"):
        gaussian_smooth(image(4, 4, 4), [1])
    for wrong in ((0, 1), (0.8, 0.2), (0.5,)):
        with pytest.raises(ValueError, match="two numbers above 0, the lower one first"):
            RandSmoothd("image", sigma_voxel=wrong)
