from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from metrics import AttentionLocalization, attention_localization, bootstrap_interval


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_lectures_example() -> None:
    scores = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).log()
    scans = attention_localization(scores, torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    assert scans.mass.item() == pytest.approx(0.6)
    assert scans.chance.item() == 0.5
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
        assert scans.hit[i].item() == lesion[int(np.argmax(cells))]


def test_an_empty_mask_has_a_chance_of_zero_and_nothing_else() -> None:
    scans = attention_localization(torch.randn(2, 3, 3), torch.zeros(2, 3, 3))
    assert scans.chance.tolist() == [0, 0]
    assert scans.mass.isnan().all() and scans.hit.isnan().all()


def test_cells_that_tie_for_the_peak_share_the_hit() -> None:
    mask = torch.zeros(2, 4)
    mask[:, 0] = 1
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5.0, 5.0, 1.0, 1.0]])
    scans = attention_localization(scores, mask)
    assert scans.hit.tolist() == [0.25, 0.5]
    assert scans.mass[0].item() == scans.chance[0].item()


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
    metric: AttentionLocalization,
    scores: torch.Tensor,
    mask: torch.Tensor,
    first_patient: int,
    **more: object,
) -> None:
    targets: dict[str, object] = {
        "box_mask": mask,
        "box_distance_mm": torch.full(mask[:, :1].shape, math.inf),
        "side_mask": torch.ones_like(mask[:, :1]),
        "side": ["none"] * len(scores),
        "patient_id": [f"p{first_patient + i}" for i in range(len(scores))],
    }
    metric.update(({"scores": scores}, targets | more))


_NOTHING = {"lesion_scans": 0, "distance_scans": 0, "side_scans": 0}


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
    patients = [f"p{i}" for i in lesion]
    mass, chance = scans.mass.double().numpy(), scans.chance.double().numpy()
    interval = bootstrap_interval(lambda drawn: (drawn @ mass) / (drawn @ chance), patients)
    ends = [values[f"attention_mass_over_chance_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx(interval[:2])
    assert values["hit_rate_low"] <= values["hit_rate"] <= values["hit_rate_high"]
    assert not any(math.isnan(value) for value in values.values())


def test_no_lesion_leaves_only_their_count() -> None:
    metric = AttentionLocalization()
    assert metric.compute() == _NOTHING
    _update(metric, torch.randn(3, 2, 4, 4), torch.zeros(3, 1, 4, 4), 0)
    assert metric.compute() == _NOTHING


def test_few_patients_have_values_but_no_interval() -> None:
    metric = AttentionLocalization()
    _update(metric, torch.zeros(2, 2, 4, 4), torch.ones(2, 1, 4, 4), 0)
    assert metric.compute() == {
        "attention_mass": 1,
        "attention_mass_over_chance": 1,
        "hit_rate": 1,
        **_NOTHING,
        "lesion_scans": 2,
    }


@pytest.mark.parametrize("feature", [(6, 6), (4, 4, 4)])
def test_the_lesion_is_the_union_of_all_channels(feature: tuple[int, ...]) -> None:
    scores = torch.randn(12, 1, *feature, generator=_generator(7))
    lesions = (torch.rand(12, 3, *feature, generator=_generator(8)) < 0.1).to(torch.uint8)
    lesions[:, 2] = 0  # unused
    lesions[:4] = 0
    lesions[4:, 1, 0] = 1
    values = []
    for mask in (lesions, lesions.amax(dim=1, keepdim=True)):
        metric = AttentionLocalization()
        _update(metric, scores, mask, 0)
        values.append(metric.compute())
    assert values[0] == values[1] and values[0]["lesion_scans"] == 8
    assert "attention_mass" in values[0] and "peak_distance_mm" not in values[0]


def test_the_distance_is_a_median_over_all_scans_with_a_box_seen_or_lost() -> None:
    scores = torch.zeros(14, 1, 3, 3)
    scores[:, :, 1, 1] = 5
    distance = torch.full((14, 1, 3, 3), 99.0)
    distance[:, 0, 1, 1] = torch.tensor([*range(12), 100.0, math.inf])
    distance[13] = math.inf
    metric = AttentionLocalization()
    _update(metric, scores, torch.zeros(14, 1, 3, 3), 0, box_distance_mm=distance)
    values = metric.compute()
    assert values["peak_distance_mm"] == 6
    assert values["peak_distance_mm_low"] < 6 < values["peak_distance_mm_high"]
    assert values["distance_scans"] == 13 and values["lesion_scans"] == 0


def test_side_accuracy_is_of_the_scans_with_one_side() -> None:
    scores = torch.zeros(14, 1, 4)
    scores[:10, :, 0] = 1
    scores[10:, :, 3] = 1
    left = torch.tensor([[[1, 1, 0, 0]]]).expand(14, 1, 4)
    side = ["left"] * 8 + ["both", "none", "right", "right", "left", "unknown"]
    right = torch.tensor([name == "right" for name in side])[:, None, None]
    mask = torch.where(right, 1 - left, left)
    metric = AttentionLocalization()
    _update(metric, scores, torch.zeros(14, 1, 4), 0, side_mask=mask, side=side)
    values = metric.compute()
    assert values["side_scans"] == 11
    assert values["side_accuracy"] == pytest.approx(10 / 11)
    assert values["side_accuracy_low"] < 10 / 11 <= values["side_accuracy_high"]
    assert set(values) == {"side_accuracy", "side_accuracy_low", "side_accuracy_high", *_NOTHING}
