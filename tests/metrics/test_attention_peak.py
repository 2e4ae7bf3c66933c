from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from metrics import attention_side, peak_distance


@pytest.mark.parametrize("feature", [(7,), (5, 6), (3, 4, 5)])
def test_agree_with_a_naive_loop(feature: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(6, *feature, generator=generator)
    distance = torch.rand(6, *feature, generator=generator) * 100
    mask = (torch.rand(6, *feature, generator=generator) < 0.5).to(torch.uint8)
    distances = peak_distance(scores, MetaTensor(distance))
    sides = attention_side(scores, MetaTensor(mask))
    for i in range(6):
        peak = max(range(scores[i].numel()), key=scores[i].flatten().tolist().__getitem__)
        assert distances[i] == distance[i].flatten()[peak]
        assert sides[i] == mask[i].flatten()[peak]


def test_cells_that_tie_for_the_peak_share_it() -> None:
    scores = torch.tensor([[2.0, 2.0, 1.0, 1.0]])
    assert peak_distance(scores, torch.tensor([[0.0, 10.0, 50.0, 50.0]])).tolist() == [5]
    assert attention_side(scores, torch.tensor([[1, 0, 1, 1]])).tolist() == [0.5]


def test_a_scan_without_a_box_or_a_lung_has_no_value() -> None:
    scores = torch.zeros(2, 3, 3)
    scores[:, 1, 1] = 1
    distance = torch.full((2, 3, 3), math.inf)
    distance[1] = 7
    values = peak_distance(scores, distance)
    assert values[0].isnan() and values[1] == 7
    mask = torch.zeros(2, 3, 3)
    mask[1, 0, 0] = 1
    values = attention_side(scores, mask)
    assert values[0].isnan() and values[1] == 0


@pytest.mark.parametrize("measure", [peak_distance, attention_side])
def test_bad_scores_are_refused(measure) -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        measure(torch.zeros(2, 3), torch.ones(2, 4))
    scores = torch.zeros(2, 4)
    scores[1, 2] = math.nan
    with pytest.raises(ValueError, match="scores must have a peak, got NaN in scan 1"):
        measure(scores, torch.ones(2, 4))
