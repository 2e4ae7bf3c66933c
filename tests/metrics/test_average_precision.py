from __future__ import annotations

import pytest
import torch

from metrics.average_precision import average_precision


def _cube(x: float) -> list[float]:
    return [x, 0.0, 0.0, x + 10, 10.0, 10.0]


_NONE = torch.empty(0, 6)


def test_of_hand_values() -> None:
    # IoU of the three boxes by falling score: 1 with the first nodule, 0, 1/3 with the second.
    boxes = [torch.tensor([_cube(0), _cube(500)]), torch.tensor([_cube(5)]), _NONE]
    scores = [torch.tensor([0.9, 0.8]), torch.tensor([0.7]), torch.empty(0)]
    truth = [torch.tensor([_cube(0)]), torch.tensor([_cube(0)]), _NONE]
    precision = average_precision(boxes, scores, truth)
    # Precision is 1 up to recall 0.5 (51 of 101 recalls), then 2/3 or, if the third misses, 0.
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert precision.at_iou_10 == pytest.approx(both)
    # 1/3 is enough for 0.1, 0.15, 0.2, 0.25 and 0.3 of the nine overlaps.
    assert precision.at_iou_10_to_50 == pytest.approx((5 * both + 4 * one) / 9)


def test_a_second_box_on_a_nodule_is_a_false_one_and_max_boxes_cuts() -> None:
    boxes, truth = [torch.tensor([_cube(1), _cube(0)])], [torch.tensor([_cube(0), _cube(100)])]
    scores = [torch.tensor([0.9, 0.5])]
    assert average_precision(boxes, scores, truth).at_iou_10 == pytest.approx(51 / 101)
    far = [torch.tensor([_cube(900), _cube(0)])]
    assert average_precision(far, scores, truth).at_iou_10 == pytest.approx(51 / 2 / 101)
    assert average_precision(far, scores, truth, max_boxes=1).at_iou_10 == 0
    many = [torch.tensor([_cube(900 + x) for x in range(150)] + [_cube(0)])]
    falling = [torch.linspace(1, 0, 151)]
    assert average_precision(many, falling, truth).at_iou_10 == 0
    assert average_precision(many, falling, truth, max_boxes=151).at_iou_10 > 0


def test_perfect_boxes_and_no_boxes() -> None:
    truth = [torch.tensor([_cube(0), _cube(50)]), _NONE]
    assert average_precision(truth, [torch.ones(2), torch.empty(0)], truth) == (1.0, 1.0)
    assert average_precision([_NONE, _NONE], 2 * [torch.empty(0)], truth) == (0.0, 0.0)


def test_no_true_box_or_another_number_of_scans_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one true box, got 0 in 1 scans"):
        average_precision([_NONE], [torch.empty(0)], [_NONE])
    with pytest.raises(ValueError, match="of as many scans, got 1, 1 and 2"):
        average_precision([_NONE], [torch.empty(0)], [_NONE, _NONE])
