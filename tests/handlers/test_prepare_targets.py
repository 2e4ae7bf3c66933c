from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from handlers import PrepareTargets


def _batch() -> dict:
    sample = {
        "image": MetaTensor(
            torch.rand(1, 4, 4, 4), affine=torch.diag(torch.tensor([2.0, 2, 2, 1]))
        ),
        "box_mask": MetaTensor(torch.ones(1, 1, 1, 1, dtype=torch.uint8)),
        "risk": 1,
        "patient_id": "p1",
    }
    other = {**sample, "risk": 0, "patient_id": "p2"}
    return next(iter(DataLoader(Dataset([sample, other]), batch_size=2)))


def test_targets_are_named_plain_and_of_the_agreed_shapes():
    prepare = PrepareTargets(["risk", "box_mask", "patient_id"])
    image, targets, args, kwargs = prepare(_batch(), device="cpu")
    assert isinstance(image, MetaTensor)
    assert image.shape == (2, 1, 4, 4, 4)
    assert targets["risk"].dtype == torch.float32
    assert targets["risk"].tolist() == [[1.0], [0.0]]
    assert type(targets["box_mask"]) is torch.Tensor
    assert targets["box_mask"].shape == (2, 1, 1, 1, 1)
    assert targets["patient_id"] == ["p1", "p2"]
    assert (args, kwargs) == ((), {"with_attention": True})


def test_inference_has_no_targets():
    _, targets, _, kwargs = PrepareTargets([], with_attention=False)(
        {"image": torch.zeros(1, 1, 2)}
    )
    assert targets == {}
    assert kwargs == {}  # a detector knows no such argument


def test_everything_goes_to_the_device():
    image, targets, _, _ = PrepareTargets(["risk", "box_mask"])(_batch(), device="meta")
    assert {image.device.type, *(value.device.type for value in targets.values())} == {"meta"}


@pytest.mark.parametrize("risk", [[1, 0], torch.tensor([[1], [0]]), torch.tensor([1.0, 0.0])])
def test_risk_takes_any_form(risk):
    _, targets, _, _ = PrepareTargets(["risk"])({"image": torch.zeros(2, 1, 2), "risk": risk})
    assert targets["risk"].tolist() == [[1.0], [0.0]]


def test_yearly_risk_keeps_its_years():
    sample = {"image": torch.zeros(1, 2, 2), "risk": torch.tensor([0.0, 1.0, 1.0])}
    sample |= {"risk_known": torch.ones(3), "event_years": torch.tensor([1.5])}
    batch = next(iter(DataLoader(Dataset([sample] * 2), batch_size=2)))
    _, targets, _, _ = PrepareTargets(["risk", "risk_known", "event_years"])(batch)
    assert targets["risk"].tolist() == [[0.0, 1.0, 1.0]] * 2
    assert targets["risk_known"].tolist() == [[1.0, 1.0, 1.0]] * 2
    assert targets["event_years"].tolist() == [[1.5], [1.5]]


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match=r"must hold side_mask, got only image, box_mask, risk"):
        PrepareTargets(["risk", "side_mask"])(_batch())


def test_a_bare_string_is_refused():
    with pytest.raises(ValueError, match="must be a list of keys, got the string 'risk'"):
        PrepareTargets("risk")
