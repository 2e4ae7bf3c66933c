from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from benchmarks.logit_field import FieldInferer, LogitField

FIELD = LogitField(((1.0, -2.0, 3.0), (10.0, 4.0, 0.0)), (4.0, 2.0))
# Swapped, flipped and oblique.
TURNED = np.array([[0, -1.2, 0.1, 14], [1.0, 0, 0, -9], [0, 0.3, 1.5, -6], [0, 0, 0, 1]])


def _naive(point_mm: np.ndarray) -> float:
    total = -4.0
    for centre_mm, radius_mm in zip(FIELD.centres_mm, FIELD.radii_mm, strict=True):
        radii = float(np.linalg.norm(point_mm - np.array(centre_mm))) / radius_mm
        if radii < 3:
            total += 4 * 2 ** (1 - radii**2)
    return total


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.0, 2.0, 1.0]), TURNED])
def test_every_voxel_has_the_logit_of_its_place(affine: np.ndarray) -> None:
    shape = (14, 16, 9)
    logits = FIELD.on_grid(shape, affine)
    assert logits.dtype == torch.float32
    expected = [_naive((affine @ [*voxel, 1.0])[:3]) for voxel in np.ndindex(shape)]
    np.testing.assert_allclose(logits.numpy().ravel(), expected, rtol=1e-5, atol=1e-5)
    assert (logits > 0).any()


def test_the_threshold_is_the_spheres_surface() -> None:
    field = LogitField(((0.0, 0.0, 0.0),), (5.0,))
    along = field.on_grid((12, 1, 1), np.diag([0.5, 1.0, 1.0, 1.0])).flatten()
    assert along[0] == pytest.approx(4)
    assert along[10] == pytest.approx(0)
    assert (along[:10] > 0).all()


def test_a_field_without_spheres_or_far_away_is_background() -> None:
    assert (LogitField((), ()).on_grid((2, 3, 4), np.eye(4)) == -4).all()
    away = np.eye(4)
    away[:3, 3] = 500
    assert (FIELD.on_grid((2, 3, 4), away) == -4).all()


def test_an_engine_is_given_the_field_on_its_inputs_grid() -> None:
    affine = torch.as_tensor(TURNED)
    inputs = MetaTensor(torch.zeros(1, 1, 6, 5, 4), affine=affine)
    given = FieldInferer(FIELD, lambda logits, image: (logits, image.shape))
    logits, shape = given(inputs, torch.nn.Identity())
    assert torch.equal(logits, FIELD.on_grid((6, 5, 4), TURNED))
    assert shape == inputs.shape
    assert (given.seconds > 0).all()


@pytest.mark.parametrize(
    "inputs", [torch.zeros(1, 1, 4, 4, 4), MetaTensor(torch.zeros(2, 1, 4, 4, 4))]
)
def test_the_input_must_have_one_grid(inputs: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be a MetaTensor of one scan"):
        FieldInferer(FIELD, lambda logits, image: logits)(inputs, torch.nn.Identity())
