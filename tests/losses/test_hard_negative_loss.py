from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from losses import DetectionLoss, HardNegativeLoss


def _naive(logits: torch.Tensor, targets: torch.Tensor, ratio: int, least: int) -> torch.Tensor:
    expected = torch.zeros_like(logits)
    for sample in range(len(logits)):
        values, truth = logits[sample, 0].tolist(), targets[sample, 0].tolist()
        negatives = [cell for cell, label in enumerate(truth) if label == 0]
        negatives.sort(key=lambda cell: (-values[cell], cell))
        positives = [cell for cell, label in enumerate(truth) if label == 1]
        for cell in positives:
            expected[sample, 0, cell] = math.log1p(math.exp(-values[cell]))
        for cell in negatives[: max(least, ratio * len(positives))]:
            expected[sample, 0, cell] = math.log1p(math.exp(values[cell]))
    return expected


def _random(samples: int, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(cells)
    logits = torch.randn(samples, 1, cells, generator=generator)
    logits = (logits * 4).round() / 4  # many ties
    targets = (torch.rand(logits.shape, generator=generator) < 0.05).float()
    targets[0] = 0
    return logits.requires_grad_(), targets


@pytest.mark.parametrize(("ratio", "least"), [(3, 5), (0, 1), (1, 40), (100, 1), (2, 1000)])
def test_agrees_with_a_sort_of_each_sample(ratio: int, least: int) -> None:
    logits, targets = _random(4, 120)
    loss = HardNegativeLoss(ratio, least)(logits, targets)
    expected = _naive(logits.detach(), targets, ratio, least)
    torch.testing.assert_close(loss.detach(), expected)
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad != 0, expected != 0)


def test_of_equal_logits_the_first_cells_are_taken() -> None:
    targets = torch.tensor([[[0.0, 1.0, 0.0, 0.0, 0.0]]])
    loss = HardNegativeLoss(2, 1)(torch.zeros(1, 1, 5), targets)
    assert (loss[0, 0] > 0).tolist() == [True, True, True, False, False]


def test_without_a_positive_the_hardest_negatives_teach() -> None:
    logits = torch.tensor([[[0.0, 3.0, -1.0, 2.0]]])
    loss = HardNegativeLoss(3, 2)(logits, torch.zeros(1, 1, 4))
    torch.testing.assert_close(loss, softplus(logits) * torch.tensor([0.0, 1.0, 0.0, 1.0]))


def test_without_a_negative_or_a_cell_the_rest_stands() -> None:
    torch.testing.assert_close(
        HardNegativeLoss(3, 2)(torch.zeros(1, 1, 3), torch.ones(1, 1, 3)),
        torch.full((1, 1, 3), math.log(2)),
    )
    assert HardNegativeLoss(3, 2)(torch.zeros(2, 1, 0), torch.zeros(2, 1, 0)).shape == (2, 1, 0)


def test_a_value_that_is_not_finite_is_not_hidden() -> None:
    for bad in (math.nan, math.inf):
        logits = torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(0))
        logits[0, 0, 77] = bad
        loss = HardNegativeLoss(3, 2)(logits, torch.zeros_like(logits))
        assert not loss[0, 0, 77].isfinite()


def test_half_precision_logits_under_autocast_give_a_loss_in_single() -> None:
    logits, targets = _random(2, 60)
    half = logits.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = HardNegativeLoss(3, 5)(half, targets)
    expected = _naive(half.detach().float(), targets, 3, 5)
    torch.testing.assert_close(loss.detach(), expected)
    loss.sum().backward()
    assert half.grad is not None and torch.equal(half.grad != 0, expected != 0)


def test_it_stands_in_the_detection_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = {"logits": 1, "offsets": 3, "log_sizes": 3}
    outputs = {
        name: [torch.randn(2, channels, 8, 8, 8, generator=generator).requires_grad_()]
        for name, channels in maps.items()
    }
    boxes = torch.zeros(2, 2, 6)
    boxes[0, 0] = torch.tensor([4.0, 4.0, 4.0, 12.0, 13.0, 14.0])
    targets = {
        "boxes_voxel": boxes,
        "box_count": torch.tensor([1, 0]),
        "patient_id": ["one", "none"],
    }
    hard = HardNegativeLoss(negatives_per_positive=3, min_negatives=7)
    loss = DetectionLoss([(4, 4, 4)], classification=hard)
    terms = loss.terms(outputs, targets)
    terms["loss"].backward()
    positives = int(terms["positive_cells"] * 2)
    gradient = outputs["logits"][0].grad
    assert gradient is not None and positives > 0
    taught = (gradient != 0).flatten(1).sum(dim=1).tolist()
    assert taught == [positives + max(7, 3 * positives), 7]


def test_bad_settings_are_refused() -> None:
    for ratio, least in ((-1, 1), (3, 0)):
        with pytest.raises(ValueError, match=f"got {ratio} and {least}"):
            HardNegativeLoss(ratio, least)
