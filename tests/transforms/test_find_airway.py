from __future__ import annotations

import numpy as np

from transforms.find_airway import find_airway

SPACING_MM = np.array([4.0, 4.0, 4.0])


def test_the_airway_does_not_spill_into_a_lung_that_it_touches() -> None:
    trachea = np.zeros((40, 30, 30), bool)
    trachea[18:22, 13:17, 6:] = True
    lung = np.zeros_like(trachea)
    lung[22:36, 5:25, 4:20] = True
    airway = find_airway(trachea | lung, SPACING_MM, 19.5)
    assert airway[trachea & (np.arange(30) >= 20)].all()
    assert (airway & lung).sum() < 0.02 * lung.sum()


def test_no_airway_is_found_in_two_lungs_or_in_nothing() -> None:
    lungs = np.zeros((40, 30, 30), bool)
    assert not find_airway(lungs, SPACING_MM, 19.5).any()
    lungs[4:16, 5:25, 4:26] = lungs[24:36, 5:25, 4:26] = True
    assert not find_airway(lungs, SPACING_MM, 19.5).any()
