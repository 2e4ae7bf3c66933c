from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from handlers import attention_map, attention_peak


def _image(*shape: int) -> MetaTensor:
    affine = torch.tensor(
        [[-2.0, 0, 0, 40], [0, 3, 0, -30], [0, 0, 5, -100], [0, 0, 0, 1]], dtype=torch.float64
    )
    return MetaTensor(torch.zeros(1, *shape), affine=affine)


def test_the_map_is_a_multiple_of_uniform():
    scores = torch.log(torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]))
    attention = attention_map(scores, _image(2, 4, 4))
    np.testing.assert_allclose(attention.numpy(), [[[[0.4, 0.8], [1.2, 1.6]]]], rtol=1e-6)
    assert attention_map(torch.zeros(2, 2, 2), _image(8, 8, 8)).unique().tolist() == [1.0]


def test_large_half_precision_scores_stay_finite_and_exact():
    scores = torch.zeros(4, 4, 4, dtype=torch.bfloat16)
    scores[1, 2, 3] = 1000
    attention = attention_map(scores, _image(16, 16, 16))
    assert attention.max() == 64
    assert float(attention.mean()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(value):
    scores = torch.zeros(2, 2, 2)
    scores[0, 0, 0] = value
    with pytest.raises(ValueError, match="attention scores must be finite, got 1 others of 8"):
        attention_map(scores, _image(8, 8, 8))


def test_the_peak_is_the_centre_of_its_cell():
    image = _image(8, 8, 8)
    scores = torch.zeros(2, 2, 2)
    scores[1, 0, 1] = 3.0
    attention = attention_map(scores, image)
    peak = attention_peak(attention, image)
    # Cells of 4 voxels: centres at voxels 5.5, 1.5 and 5.5.
    assert peak.ras_mm == pytest.approx((40 - 2 * 5.5, -30 + 3 * 1.5, -100 + 5 * 5.5))
    assert np.abs(np.subtract(peak.voxel, (5.5, 1.5, 5.5))).max() <= 0.5
    assert peak.value == pytest.approx(8 * np.exp(3) / (np.exp(3) + 7))


def test_a_peak_beyond_the_scan_gets_the_nearest_voxel():
    padded = _image(8, 8, 16)
    scores = torch.zeros(2, 2, 4)
    scores[0, 0, 3] = 1.0
    peak = attention_peak(attention_map(scores, padded), _image(8, 8, 8))
    assert peak.ras_mm[2] == pytest.approx(-100 + 5 * 13.5)
    assert peak.voxel[2] == 7


def test_a_2d_map_has_two_coordinates():
    image = _image(8, 8)
    scores = torch.zeros(2, 2)
    scores[0, 1] = 1.0
    peak = attention_peak(attention_map(scores, image), image)
    assert peak.ras_mm == pytest.approx((40 - 2 * 1.5, -30 + 3 * 5.5))
    assert len(peak.voxel) == 2
