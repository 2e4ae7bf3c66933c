from __future__ import annotations

import numpy as np
import pytest

from metrics.nodule_mass import nodule_mass_mg


def test_mass_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(-1024, 200, (5, 6, 7)).astype(np.int16)
    mask = rng.random(image.shape) > 0.5
    expected = 0.0
    for index in np.argwhere(mask).tolist():
        expected += (float(image[tuple(index)]) + 1000) / 1000 * 0.5 * 0.6 * 2
    assert nodule_mass_mg(image, mask, (0.5, 0.6, 2)) == pytest.approx(expected)


def test_water_weighs_a_milligram_and_air_nothing() -> None:
    mask = np.ones((10, 1, 1), dtype=np.uint8)
    assert nodule_mass_mg(np.zeros(mask.shape), mask, (1, 1, 1)) == pytest.approx(10)
    assert nodule_mass_mg(np.full(mask.shape, -1000), mask, (1, 1, 1)) == 0
    assert nodule_mass_mg(np.zeros(mask.shape), 0 * mask, (1, 1, 1)) == 0


def test_bad_input_is_refused() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(ValueError, match="image_hu must be finite in the mask, got 8 voxels"):
        nodule_mass_mg(np.full((2, 2, 2), np.inf), mask, (1, 1, 1))
    with pytest.raises(ValueError, match=r"image_hu must be \(2, 2, 2\) as the mask"):
        nodule_mass_mg(np.zeros((2, 2, 3)), mask, (1, 1, 1))
