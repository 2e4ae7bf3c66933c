from __future__ import annotations

import numpy as np
import pytest

from metrics import SIZE_CLASSES, size_class


@pytest.mark.parametrize(
    ("diameter_mm", "expected"),
    [
        (0.5, "under_6_mm"),
        (5.99, "under_6_mm"),
        (float(np.float32(20 * 0.3)), "6_to_8_mm"),
        (5.9999999, "6_to_8_mm"),
        (7.99, "6_to_8_mm"),
        (8, "8_to_10_mm"),
        (10, "10_to_15_mm"),
        (14.9, "10_to_15_mm"),
        (15, "15_mm_and_more"),
        (80, "15_mm_and_more"),
    ],
)
def test_a_limit_belongs_to_the_larger(diameter_mm: float, expected: str) -> None:
    assert size_class(diameter_mm) == expected
    assert expected in SIZE_CLASSES
