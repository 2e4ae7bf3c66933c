from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import box_utils

from networks.box_grid import BoxGrid
from networks.box_ops import box_iou, nms


def _random(count: int, dims: int, seed: int, extent: float = 120.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = extent * torch.rand(count, dims, generator=generator) - 30
    size = 2 + 30 * torch.rand(count, dims, generator=generator)
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _clustered(count: int, dims: int, seed: int, clusters: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    seeds = _random(clusters, dims, seed)[torch.randint(clusters, (count,), generator=generator)]
    return seeds + 1.0 * torch.rand(count, 2 * dims, generator=generator)


def _scores(count: int, seed: int = 0) -> torch.Tensor:
    """No two alike."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return (order + 1) / (count + 1)


def _monai_nms(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, max_boxes: int = -1
) -> torch.Tensor:
    return torch.as_tensor(box_utils.non_max_suppression(boxes, scores, iou_threshold, max_boxes))


def _iou_of(a: list[float], b: list[float]) -> float:
    """Plain arithmetic on one pair."""
    dims = len(a) // 2
    inter = area_a = area_b = 1.0
    for axis in range(dims):
        inter *= max(0.0, min(a[axis + dims], b[axis + dims]) - max(a[axis], b[axis]))
        area_a *= a[axis + dims] - a[axis]
        area_b *= b[axis + dims] - b[axis]
    return inter / (area_a + area_b - inter)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.float16])
def test_iou_is_that_of_monai(dims: int, dtype: torch.dtype) -> None:
    a, b = _random(300, dims, 0).to(dtype), _random(250, dims, 1).to(dtype)
    ours, monai = box_iou(a, b), torch.as_tensor(box_utils.box_iou(a, b))
    assert ours.dtype == monai.dtype
    assert torch.equal(ours, monai)
    assert (ours > 0).any()


def test_iou_of_hand_values() -> None:
    a = torch.tensor([[0, 0, 0, 2, 2, 2], [0, 0, 0, 0, 0, 0]])
    b = torch.tensor([[1, 1, 1, 3, 3, 3], [0, 0, 0, 2, 2, 1], [5, 5, 5, 6, 6, 6]])
    expected = torch.tensor([[1 / 15, 0.5, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(box_iou(a, b), expected)


def test_iou_in_several_tiles_is_that_of_single_pairs() -> None:
    a, b = _random(90, 3, 2), _random(1000, 3, 3)
    ours = box_iou(a, b)  # 65 rows a tile, so that the last one is short
    for row, column in itertools.product((0, 64, 65, 89), range(0, 1000, 37)):
        expected = _iou_of(a[row].tolist(), b[column].tolist())
        assert float(ours[row, column]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
def test_iou_without_boxes_is_empty(rows: int, columns: int) -> None:
    assert box_iou(_random(rows, 3, 0), _random(columns, 3, 0)).shape == (rows, columns)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.1, 0.22, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("make", [_random, _clustered])
@pytest.mark.parametrize("max_boxes", [None, 1, 40])
def test_nms_keeps_the_boxes_that_monai_keeps(
    dims: int, iou_threshold: float, make: type, max_boxes: int | None
) -> None:
    boxes, scores = make(700, dims, 5), _scores(700)
    ours = nms(boxes, scores, iou_threshold, max_boxes)
    monai = _monai_nms(boxes, scores, iou_threshold, max_boxes or -1)
    assert ours.dtype == torch.int64
    assert ours.tolist() == monai.tolist()


@pytest.mark.parametrize("clusters", [1, 12])
def test_crowded_boxes_are_split_into_blocks_with_the_same_outcome(clusters: int) -> None:
    boxes, scores = _clustered(5000, 3, 7, clusters), _scores(5000)
    for iou_threshold in (0.1, 0.8):
        monai = _monai_nms(boxes, scores, iou_threshold)
        assert torch.equal(nms(boxes, scores, iou_threshold), monai)
        few = _monai_nms(boxes, scores, iou_threshold, 20)
        assert torch.equal(nms(boxes, scores, iou_threshold, 20), few)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_nms_at_any_scale_and_far_from_the_origin(scale: float) -> None:
    boxes, scores = (_random(600, 3, 9) + 5000) * scale, _scores(600)
    boxes[0, 3:] += 4000 * scale  # one box as large as all the others' extent
    expected = _monai_nms(boxes, scores, 0.3)
    assert torch.equal(nms(boxes, scores, 0.3), expected)


def test_nms_takes_the_scores_of_other_types_and_the_limit_of_monai() -> None:
    boxes, scores = _random(200, 3, 1), _scores(200)
    expected = nms(boxes, scores, 0.2)
    assert torch.equal(nms(boxes.double(), scores.double(), 0.2, -1), expected)
    assert torch.equal(nms(boxes, (scores * 201).round().long(), 0.2, 1000), expected)


def test_equal_scores_keep_the_first_and_equal_boxes_keep_one() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4]]).repeat(3000, 1)
    boxes[7] += 100
    assert nms(boxes, torch.ones(3000), 0.5).tolist() == [0, 7]
    assert (
        nms(boxes, _scores(3000), 1.0).tolist() == _scores(3000).argsort(descending=True).tolist()
    )


def test_a_box_that_is_itself_suppressed_suppresses_nothing() -> None:
    chain = torch.tensor([[float(x), 0, x + 3.0, 1] for x in range(6)])
    scores = torch.tensor([6.0, 5, 4, 3, 2, 1])
    assert nms(chain, scores, 0.45).tolist() == [0, 2, 4]


def test_nms_of_no_boxes_and_of_points() -> None:
    empty = nms(torch.empty(0, 6), torch.empty(0), 0.5)
    assert empty.shape == (0,) and empty.dtype == torch.int64
    points = torch.ones(5, 6)  # boxes without volume overlap nothing
    assert nms(points, _scores(5), 0.0).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_no_gradient_is_asked_of_the_boxes() -> None:
    boxes = _random(20, 3, 0).requires_grad_()
    assert not box_iou(boxes, boxes).requires_grad
    assert len(nms(boxes, _scores(20).requires_grad_(), 0.5))


def test_the_grid_finds_each_overlapping_pair_once() -> None:
    boxes = _random(400, 3, 4)
    grid = BoxGrid(boxes.T.contiguous().numpy(), 0.1)
    first, second = grid.overlapping_pairs()
    expected = (box_iou(boxes, boxes) > 0.1).triu(1).nonzero().tolist()
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [tuple(p) for p in expected]
    assert len(expected) < grid.candidates < 400 * 399 / 4


def test_the_grid_misses_no_pair_of_boxes_as_small_as_the_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        low = 1e5 + 0.1 * torch.rand(300, 3, generator=generator)  # float32 steps are 1/128 here
        boxes = torch.cat([low, low + 0.015 + 0.03 * torch.rand(300, 3, generator=generator)], 1)
        first, second = BoxGrid(boxes.T.contiguous().numpy(), 0.33).overlapping_pairs()
        expected = (box_iou(boxes, boxes) > 0.33).triu(1).nonzero().tolist()
        pairs = sorted(zip(first.tolist(), second.tolist(), strict=True))
        assert pairs == [tuple(pair) for pair in expected]
        assert pairs


def test_the_grid_can_compare_the_first_boxes_with_the_others_only() -> None:
    boxes = _random(400, 3, 4)
    first, second = BoxGrid(boxes.T.contiguous().numpy(), 0.1, queries=50).overlapping_pairs()
    expected = (box_iou(boxes[:50], boxes[50:]) > 0.1).nonzero() + torch.tensor([0, 50])
    pairs = sorted(zip(first.tolist(), second.tolist(), strict=True))
    assert pairs == [tuple(p) for p in expected.tolist()]


_BOX = [[0.0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize(
    ("boxes", "rule"),
    [
        (torch.zeros(3), r"boxes must have shape \(N, 4\) or \(N, 6\), got \(3,\)"),
        (torch.zeros(1, 5), r"boxes must have shape \(N, 4\) or \(N, 6\), got \(1, 5\)"),
        (torch.tensor([[0.0, 0, 2, -1]]), r"from low to high corners, got \[.*-1.0\] in row 0"),
        (torch.tensor([[0.0, torch.nan, 2, 3]]), r"must be finite .* got \[0.0, nan, 2.0, 3.0\]"),
        (torch.tensor([[0.0, 0, 2, torch.inf]]), r"must be finite .* inf\] in row 0"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes: torch.Tensor, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        nms(boxes, torch.zeros(len(boxes)), 0.5)
    with pytest.raises(ValueError, match=rule.replace("boxes", "a")):
        box_iou(boxes, torch.zeros(0, 4))


def test_other_arguments_that_break_a_rule_are_refused() -> None:
    box = torch.tensor(_BOX)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1.5"):
        nms(box, torch.ones(1), 1.5)
    with pytest.raises(ValueError, match=r"between 0 and 1, got nan"):
        nms(box, torch.ones(1), float("nan"))
    with pytest.raises(ValueError, match=r"1 or more, or -1 for no limit, got 0"):
        nms(box, torch.ones(1), 0.5, 0)
    with pytest.raises(ValueError, match=r"scores must have shape .* got \(2,\) and \(1, 6\)"):
        nms(box, torch.ones(2), 0.5)
    with pytest.raises(ValueError, match=r"scores must not be NaN, got NaN in row 1"):
        nms(box.repeat(3, 1), torch.tensor([1.0, torch.nan, 2.0]), 0.5)
    with pytest.raises(ValueError, match=r"as many columns, got 6 and 4"):
        box_iou(box, torch.zeros(1, 4))
