from __future__ import annotations

import pytest

from cohorts.linked_boxes import link_boxes


def box(left: float, top: float, size: float, depth: int) -> list[float]:
    return [left, top, depth, left + size, top + size, depth + 1]


@pytest.mark.parametrize(
    ("boxes", "slice_mm", "lesions"),
    [
        ([], 1.0, []),
        # one lesion that tapers off, its slices not in order
        ([box(4, 4, 3, 2), box(2, 2, 8, 1), box(3, 3, 6, 0)], 2.0, [[2, 1, 0]]),
        # the same lesion drawn twice in a slice, and another one beside it
        ([box(2, 2, 8, 0), box(2.5, 2, 8, 0), box(9, 2, 8, 0)], 2.0, [[0, 1], [2]]),
        # two lesions side by side over two slices
        ([box(0, 0, 4, 0), box(20, 0, 4, 0), box(20, 1, 4, 1), box(0, 1, 4, 1)], 2.0,
         [[0, 3], [1, 2]]),
        # a slice without a box: spanned at 2 mm, not at 6 mm
        ([box(0, 0, 4, 0), box(0, 0, 4, 2)], 2.0, [[0, 1]]),
        ([box(0, 0, 4, 0), box(0, 0, 4, 2)], 6.0, [[0], [1]]),
        ([box(0, 0, 4, 0), box(0, 0, 4, 1)], 6.0, [[0, 1]]),
        # corners that touch share too little
        ([box(0, 0, 4, 0), box(3, 3, 4, 1)], 2.0, [[0], [1]]),
    ],
)  # fmt: skip
def test_boxes_of_a_lesion_are_linked(
    boxes: list[list[float]], slice_mm: float, lesions: list[list[int]]
) -> None:
    assert link_boxes(boxes, slice_mm=slice_mm) == lesions
