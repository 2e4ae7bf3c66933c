"""Nodules by their size."""

from __future__ import annotations

_ENDS_MM = (6, 8, 10, 15)
SIZE_CLASSES = ("under_6_mm", "6_to_8_mm", "8_to_10_mm", "10_to_15_mm", "15_mm_and_more")


def size_class(diameter_mm: float) -> str:
    """One of ``SIZE_CLASSES``; a diameter on the limit of two is in the larger.

    Compared to a micrometre, so that a box of 6 mm in float32 voxels is not under 6 mm.
    """
    return SIZE_CLASSES[sum(round(diameter_mm, 3) >= end for end in _ENDS_MM)]
