from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from metrics import AttentionLocalization, attention_localization


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_lectures_example() -> None:
    scores = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log()
    scans = attention_localization(scores, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    assert scans.mass.item() == pytest.approx(0.6)
    assert scans.chance.item() == 0.5
    assert scans.mass_over_chance.item() == pytest.approx(1.2)
    assert scans.hit.item() == 1


@pytest.mark.parametrize("feature", [(7,), (5, 6), (3, 4, 5)])
def test_agrees_with_a_naive_loop(feature: tuple[int, ...]) -> None:
    scores = torch.randn(4, *feature, generator=_generator(1)) * 3
    mask = (torch.rand(4, *feature, generator=_generator(2)) < 0.3).float()
    mask[:, -1] = 1
    scans = attention_localization(scores, mask)
    for i in range(4):
        cells, lesion = scores[i].flatten().tolist(), mask[i].flatten().tolist()
        total = sum(math.exp(cell) for cell in cells)
        mass = sum(math.exp(c) for c, a in zip(cells, lesion, strict=True) if a) / total
        chance = sum(lesion) / len(lesion)
        assert scans.mass[i].item() == pytest.approx(mass, rel=1e-5)
        assert scans.chance[i].item() == pytest.approx(chance, rel=1e-6)
        assert scans.mass_over_chance[i].item() == pytest.approx(mass / chance, rel=1e-5)
        assert scans.hit[i].item() == lesion[int(np.argmax(cells))]


def test_an_empty_mask_has_a_chance_of_zero_and_nothing_else() -> None:
    scans = attention_localization(torch.randn(2, 3, 3), torch.zeros(2, 3, 3))
    assert scans.chance.tolist() == [0, 0]
    assert scans.mass.isnan().all() and scans.mass_over_chance.isnan().all()
    assert scans.hit.isnan().all()


def test_cells_that_tie_for_the_peak_share_the_hit() -> None:
    mask = torch.zeros(2, 4)
    mask[:, 0] = 1
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 1.0, 1.0]])
    scans = attention_localization(scores, mask)
    assert scans.hit.tolist() == [0.25, 0.5]
    assert scans.mass_over_chance[0].item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_full_size_grid_agrees_with_float64(dtype: torch.dtype) -> None:
    scores = (torch.randn(1, 128, 128, 50, generator=_generator(3)) * 4).to(dtype)
    mask = torch.zeros(1, 128, 128, 50)
    mask[0, 40:48, 50:57, 20:24] = 1
    expected = (scores.double().flatten().softmax(0) * mask.flatten()).sum().item()
    assert attention_localization(scores, mask).mass.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ahead", [0.0, 120.0])
def test_all_attention_inside_is_one_and_never_more(ahead: float) -> None:
    scores = torch.randn(3, 9, 9, generator=_generator(4)).to(torch.bfloat16) + ahead
    assert attention_localization(scores, torch.ones(3, 9, 9)).mass.max().item() <= 1
    mask = torch.zeros(3, 9, 9)
    mask[:, 4, 4] = 1
    peaked = attention_localization(mask * 120, mask)
    assert peaked.mass.tolist() == [1, 1, 1] and peaked.hit.tolist() == [1, 1, 1]


def test_bad_scores_are_refused() -> None:
    mask = torch.ones(2, 4)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        attention_localization(torch.zeros(2, 3), mask)
    for bad in (math.nan, math.inf):
        scores = torch.zeros(2, 4)
        scores[1, 2] = bad
        with pytest.raises(ValueError, match="must have a softmax, got NaN or infinity in scan 1"):
            attention_localization(scores, mask)


def _update(
    metric: AttentionLocalization, scores: torch.Tensor, mask: torch.Tensor, first_patient: int
) -> None:
    ids = [f"p{first_patient + i}" for i in range(len(scores))]
    metric.update(({"scores": scores}, {"box_mask": mask, "patient_id": ids}))


def test_the_metric_averages_the_scans_with_a_lesion() -> None:
    scores = torch.randn(12, 2, 6, 6, generator=_generator(5))
    mask = (torch.rand(12, 1, 6, 6, generator=_generator(6)) < 0.2).float()
    mask[[1, 7]] = 0
    metric = AttentionLocalization(head=1)
    _update(metric, scores[:9], MetaTensor(mask[:9]), 0)
    _update(metric, scores[9:], MetaTensor(mask[9:]), 9)
    values = metric.compute()

    lesion = [i for i in range(12) if i not in (1, 7)]
    scans = attention_localization(scores[lesion, 1], mask[lesion, 0])
    assert values["lesion_scans"] == 10
    assert values["attention_mass"] == pytest.approx(scans.mass.mean().item())
    assert values["attention_mass_over_chance"] == pytest.approx(
        (scans.mass.sum() / scans.chance.sum()).item()
    )
    assert values["hit_rate"] == pytest.approx(scans.hit.mean().item())
    assert values["attention_mass_low"] < values["attention_mass"] < values["attention_mass_high"]
    assert values["hit_rate_low"] <= values["hit_rate"] <= values["hit_rate_high"]
    assert not any(math.isnan(value) for value in values.values())


def test_no_lesion_leaves_only_their_count() -> None:
    metric = AttentionLocalization()
    assert metric.compute() == {"lesion_scans": 0}
    _update(metric, torch.randn(3, 2, 4, 4), torch.zeros(3, 1, 4, 4), 0)
    assert metric.compute() == {"lesion_scans": 0}


def test_few_patients_have_values_but_no_interval() -> None:
    metric = AttentionLocalization()
    _update(metric, torch.zeros(2, 2, 4, 4), torch.ones(2, 1, 4, 4), 0)
    assert metric.compute() == {
        "attention_mass": 1,
        "attention_mass_over_chance": 1,
        "hit_rate": 1,
        "lesion_scans": 2,
    }
