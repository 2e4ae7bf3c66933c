from __future__ import annotations

import pytest
import torch
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher
from torch import nn

from benchmarks.retina_detector import retina_detector

SPACING_MM = (1.5, 1.5, 2.5)
IMAGE = torch.zeros(1, 1, 32, 32, 16)
GRIDS = [(8, 8, 8), (4, 4, 4), (2, 2, 2)]
ANCHORS_PER_CELL = 3


class _OneMark(nn.Module):
    """The middle anchor of one cell of the finest level scores, with its own box."""

    def forward(self, image: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        logits = [torch.full((1, ANCHORS_PER_CELL, *grid), -20.0) for grid in GRIDS]
        logits[0][0, 1, 5, 2, 3] = 3.0
        return {
            "classification": logits,
            "box_regression": [torch.zeros(1, ANCHORS_PER_CELL * 6, *grid) for grid in GRIDS],
        }


@pytest.fixture(scope="module")
def detector():
    return retina_detector(SPACING_MM, tile_shape=(32, 32, 16))


@pytest.fixture(scope="module")
def anchors(detector) -> torch.Tensor:
    maps = [torch.zeros(1, ANCHORS_PER_CELL, *grid) for grid in GRIDS]
    return detector.anchor_generator(IMAGE, maps)[0]


def test_anchors_keep_their_mm(anchors):
    finest = anchors[0 : 8 * 8 * 8 * ANCHORS_PER_CELL]
    size_mm = (finest[:3, 3:] - finest[:3, :3]) * torch.tensor(SPACING_MM)
    published = torch.tensor([[6, 8, 4], [8, 6, 5], [10, 10, 6]]) * torch.tensor(
        [0.703125, 0.703125, 1.25]
    )
    torch.testing.assert_close(size_mm, published)
    coarsest = anchors[-1]
    torch.testing.assert_close(
        (coarsest[3:] - coarsest[:3]) * torch.tensor(SPACING_MM), 4 * published[2]
    )


@pytest.mark.parametrize("use_inferer", [False, True])
def test_a_mark_lies_in_the_middle_of_its_cell(use_inferer):
    detector = retina_detector(SPACING_MM, tile_shape=(32, 32, 16)).eval()
    detector.network = _OneMark()
    found = detector(IMAGE, use_inferer=use_inferer)[0]
    assert len(found["boxes"]) == 1
    low, high = found["boxes"][0].chunk(2)
    # Cell (5, 2, 3) of stride (4, 4, 2), where voxel i covers i to i + 1.
    torch.testing.assert_close((low + high) / 2, torch.tensor([22.0, 10.0, 7.0]))
    size_mm = (high - low) * torch.tensor(SPACING_MM)
    torch.testing.assert_close(size_mm, torch.tensor([8 * 0.703125, 6 * 0.703125, 5 * 1.25]))
    assert found["labels_scores"].item() == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_boxes_are_matched_as_by_monai(detector, anchors):
    cells = [8 * 8 * 8, 4 * 4 * 4, 2 * 2 * 2]
    boxes = torch.tensor([[20.3, 8.1, 5.2, 24.0, 12.6, 8.8], [2.0, 3.0, 1.0, 20.0, 21.0, 12.0]])
    matcher = ATSSMatcher(4, center_in_gt=False)
    _, expected = matcher(boxes, anchors, cells, ANCHORS_PER_CELL)
    targets = [{"boxes": boxes}, {"boxes": boxes[:0]}]
    matched, without = detector.compute_anchor_matched_idxs([anchors] * 2, targets, cells)
    torch.testing.assert_close(matched, expected)
    assert set(matched.tolist()) == {-1, 0, 1}
    assert (without == -1).all()


def test_a_batch_with_and_without_boxes_trains(detector):
    torch.manual_seed(0)
    image = torch.rand(2, 1, 32, 32, 16)
    boxes = torch.tensor([[18.0, 9.0, 6.0, 25.0, 16.0, 11.0]])
    targets = [
        {"boxes": table, "labels": torch.zeros(len(table), dtype=torch.int64)}
        for table in (boxes, boxes[:0])
    ]
    losses = detector.train()(image, targets)
    sum(losses.values()).backward()
    gradients = [value.grad for value in detector.network.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
