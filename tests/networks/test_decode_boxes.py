from __future__ import annotations

import itertools
import math

import pytest
import torch

from networks import decode_boxes


def _maps(batch: int, features: list[tuple[int, ...]], seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    dims = len(features[0])

    def level(channels: int) -> list[torch.Tensor]:
        return [torch.randn(batch, channels, *f, generator=generator) for f in features]

    return {"logits": level(1), "offsets": level(dims), "log_sizes": level(dims)}


def _naive(outputs: dict, strides: list[tuple[int, ...]], image: int) -> list[tuple]:
    """(-score, box) of every cell of every level, best first."""
    marks = []
    for level, stride in enumerate(strides):
        logits, offsets, sizes = (
            outputs[k][level][image] for k in ("logits", "offsets", "log_sizes")
        )
        for cell in itertools.product(*map(range, logits.shape[1:])):
            low, high = [], []
            for axis, step in enumerate(stride):
                centre = (cell[axis] + 0.5 + float(offsets[(axis, *cell)])) * step
                size = math.exp(float(sizes[(axis, *cell)])) * step
                low.append(centre - size / 2)
                high.append(centre + size / 2)
            marks.append((1 / (1 + math.exp(-float(logits[(0, *cell)]))), low + high))
    return sorted(marks, key=lambda mark: -mark[0])


@pytest.mark.parametrize(
    ("features", "strides"),
    [
        ([(6, 5, 4), (3, 3, 2), (2, 2, 2)], [(4, 4, 2), (8, 8, 4), (16, 16, 4)]),
        ([(7, 4), (4, 2)], [(2, 4), (4, 8)]),
    ],
)
@pytest.mark.parametrize(("top_k", "min_score"), [(10, 0.0), (1000, 0.6), (5, 0.75), (1000, 0.0)])
def test_the_best_of_all_cells(features, strides, top_k: int, min_score: float) -> None:
    outputs = _maps(2, features)
    for image, (boxes, scores) in enumerate(
        decode_boxes(outputs, strides, top_k=top_k, min_score=min_score)
    ):
        expected = [m for m in _naive(outputs, strides, image) if m[0] > min_score][:top_k]
        assert expected
        torch.testing.assert_close(scores, torch.tensor([m[0] for m in expected]))
        torch.testing.assert_close(boxes, torch.tensor([m[1] for m in expected]))


def test_hand_values() -> None:
    """Cell 1, 0 of stride 8, 4: centre at 12 + 2, 2 - 1, size 16, 4."""
    outputs = {
        "logits": [torch.tensor([[[[-9.0], [0.0]]]])],
        "offsets": [torch.tensor([[[[9.0], [0.25]], [[9.0], [-0.25]]]])],
        "log_sizes": [torch.tensor([[[[9.0], [math.log(2)]], [[9.0], [0.0]]]])],
    }
    [(boxes, scores)] = decode_boxes(outputs, [(8, 4)], top_k=3, min_score=0.1)
    torch.testing.assert_close(boxes, torch.tensor([[6.0, -1.0, 22.0, 3.0]]))
    assert scores.tolist() == [0.5]


def test_no_cell_above_the_least_score() -> None:
    outputs = _maps(2, [(3, 3, 3)])
    outputs["logits"][0][0] -= 100
    (boxes, scores), (others, _) = decode_boxes(outputs, [(4, 4, 4)], top_k=9, min_score=0.01)
    assert boxes.shape == (0, 6) and scores.shape == (0,)
    assert len(others) == 9
    outputs["logits"][0].fill_(0.0)
    assert len(decode_boxes(outputs, [(4, 4, 4)], top_k=9, min_score=0.5)[0][0]) == 0


def test_of_equal_logits_the_finer_level_and_the_first_cell_come_first() -> None:
    outputs = _maps(1, [(20, 20), (10, 10)])
    for maps in outputs.values():
        for level in maps:
            level.zero_()
    outputs["logits"][1][0, 0, 3, 3] = 1.0
    [(boxes, _)] = decode_boxes(outputs, [(1, 1), (2, 2)], top_k=4, min_score=0.0)
    assert boxes.tolist() == [[6, 6, 8, 8], [0, 0, 1, 1], [0, 1, 1, 2], [0, 2, 1, 3]]


def test_half_precision_is_decoded_in_single() -> None:
    outputs = _maps(1, [(100, 100)])
    half = {key: [m.half() for m in maps] for key, maps in outputs.items()}
    single = {key: [m.float() for m in maps] for key, maps in half.items()}
    for a, b in zip(
        decode_boxes(half, [(7, 7)], top_k=50, min_score=0.0)[0],
        decode_boxes(single, [(7, 7)], top_k=50, min_score=0.0)[0],
        strict=True,
    ):
        assert a.dtype == torch.float32 and torch.equal(a, b)


def test_a_log_size_out_of_all_bounds_stays_finite() -> None:
    outputs = _maps(1, [(2, 2)])
    outputs["log_sizes"][0].fill_(1e4)
    [(boxes, _)] = decode_boxes(outputs, [(2, 2)], top_k=9, min_score=0.0)
    assert boxes.isfinite().all()


def test_arguments_that_break_a_rule_are_refused() -> None:
    outputs = _maps(2, [(2, 2)])
    with pytest.raises(ValueError, match="top_k must be 1 or more, got 0"):
        decode_boxes(outputs, [(4, 4)], top_k=0, min_score=0.0)
    with pytest.raises(ValueError, match="min_score must be 0 or more and below 1, got 1"):
        decode_boxes(outputs, [(4, 4)], top_k=1, min_score=1.0)
    with pytest.raises(ValueError, match="one entry per level of the outputs, got 2 and 1"):
        decode_boxes(outputs, [(4, 4), (8, 8)], top_k=1, min_score=0.0)
    outputs["offsets"][0][1] = torch.nan
    with pytest.raises(ValueError, match="boxes must be finite, got NaN in image 1"):
        decode_boxes(outputs, [(4, 4)], top_k=1, min_score=0.0)
    outputs["logits"][0][1, 0, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="logits must be numbers, got NaN in image 1"):
        decode_boxes(outputs, [(4, 4)], top_k=1, min_score=0.0)
