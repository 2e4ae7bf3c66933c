from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from losses import VoxelLoss
from metrics import MeanLossTerms

_SHAPE = (4, 5, 3)


def _default(smooth: float = 1e-5) -> VoxelLoss:
    return VoxelLoss(DiceCELoss(sigmoid=True, batch=True, smooth_nr=smooth, smooth_dr=smooth))


def _logits(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((samples, 1, *_SHAPE), generator=generator).requires_grad_()


def _targets(*filled: int, shape: tuple[int, ...] = _SHAPE) -> dict[str, Any]:
    """A mask for each sample whose first voxels hold instances 1, 2, ...; 0 is no nodule."""
    mask = torch.zeros((len(filled), 1, math.prod(shape)), dtype=torch.int16)
    for row, count in zip(mask, filled, strict=True):
        row[0, :count] = torch.arange(1, count + 1)
    return {
        "mask": mask.reshape(len(filled), 1, *shape),
        "patient_id": [f"patient-{index}" for index in range(len(filled))],
    }


def _naive(logits: torch.Tensor, mask: torch.Tensor, smooth: float) -> float:
    """Voxel by voxel: mean cross entropy, and one soft Dice of the whole batch."""
    cross_entropy = both = sizes = 0.0
    for logit, instance in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True):
        p, inside = 1 / (1 + math.exp(-logit)), instance != 0
        cross_entropy -= math.log(p if inside else 1 - p)
        both += p * inside
        sizes += p + inside
    return cross_entropy / mask.numel() + 1 - (2 * both + smooth) / (sizes + smooth)


@pytest.mark.parametrize("filled", [(7, 12), (0, 9), (0, 0), (60, 60)])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
def test_dice_and_binary_cross_entropy_are_those_of_a_loop(
    filled: tuple[int, ...], smooth: float
) -> None:
    logits, targets = _logits(2), _targets(*filled)
    loss = _default(smooth)
    terms = loss.terms(logits, targets)
    assert terms["loss"].item() == pytest.approx(_naive(logits, targets["mask"], smooth), rel=1e-5)
    assert list(terms) == ["loss"]
    assert loss(logits, targets).item() == terms["loss"].item()


def test_plain_cross_entropy_by_hand() -> None:
    # p = 3/4 and 1/4; the first voxel is inside, the second outside, in both samples.
    logits = torch.tensor([[math.log(3), -math.log(3)], [0.0, math.log(3)]]).reshape(2, 1, 1, 2)
    targets = _targets(1, 1, shape=(1, 2))
    value = VoxelLoss(nn.BCEWithLogitsLoss())(logits, targets)
    by_hand = -(math.log(3 / 4) + math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 4)) / 4
    assert value.item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("loss", [_default(), _default(1.0), VoxelLoss(nn.BCEWithLogitsLoss())])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_a_batch_without_a_nodule_pushes_every_logit_down(loss: VoxelLoss, spread: float) -> None:
    logits = (spread * _logits(2).detach()).requires_grad_()
    value = loss(logits, _targets(0, 0))
    value.backward()
    assert logits.grad is not None and value.isfinite()
    assert logits.grad.isfinite().all() and (logits.grad >= 0).all()
    assert (logits.grad[logits > -50] > 0).all()


def test_in_a_batch_with_one_nodule_each_patch_is_pushed_towards_its_own_mask() -> None:
    logits, targets = _logits(2), _targets(0, 9)
    _default()(logits, targets).backward()
    assert logits.grad is not None
    inside = targets["mask"] != 0
    assert (logits.grad[inside] < 0).all() and (logits.grad[~inside] > 0).all()
    assert inside[1].any() and not inside[0].any()


def test_which_instance_a_voxel_belongs_to_does_not_matter() -> None:
    logits, targets = _logits(1), _targets(9)
    one = {**targets, "mask": targets["mask"].clamp(max=1).float()}
    assert torch.equal(_default()(logits, targets), _default()(logits, one))


def test_two_classes_have_a_channel_each() -> None:
    logits = torch.cat((_logits(1), _logits(1, seed=1)), dim=1)
    mask = torch.cat((_targets(7)["mask"], _targets(12)["mask"]), dim=1)
    targets = {"mask": mask, "patient_id": ["one"]}
    value = VoxelLoss(nn.BCEWithLogitsLoss())(logits, targets)
    each = [
        VoxelLoss(nn.BCEWithLogitsLoss())(logits[:, [k]], {**targets, "mask": mask[:, [k]]})
        for k in range(2)
    ]
    assert value.item() == pytest.approx((each[0].item() + each[1].item()) / 2, rel=1e-6)


def test_half_precision_logits_are_compared_in_single() -> None:
    half, targets = _logits(1).detach().half(), _targets(9)
    value = _default()(half, targets)
    assert value.dtype == torch.float32 and torch.equal(value, _default()(half.float(), targets))


def test_the_mean_over_an_epoch_has_the_name_of_the_term() -> None:
    metric = MeanLossTerms(_default())
    batches = [(_logits(2), _targets(0, 9)), (_logits(1, seed=1), _targets(3))]
    for batch in batches:
        metric.update(batch)
    first, second = (_default()(*batch).item() for batch in batches)
    assert metric.compute() == {"loss": pytest.approx((2 * first + second) / 3)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_name_the_patient(value: float) -> None:
    logits = _logits(3).detach()
    logits[1, 0, 2, 2, 2] = value
    shown = abs(value)
    with pytest.raises(ValueError, match=f"logits must be finite, got {shown} for patient patient"):
        _default()(logits, _targets(1, 2, 3))
    logits[2, 0, 0, 0, 0] = value
    twice = {**_targets(1, 2, 3), "patient_id": ["fine", "twice", "twice"]}
    with pytest.raises(ValueError, match=f"got {shown} for patient twice$"):
        _default()(logits, twice)


def test_logits_of_another_shape_are_refused() -> None:
    sentence = (
        r"logits must have the shape of the mask, got \(2, 1, 4, 5, 3\) and \(2, 1, 4, 5, 2\)"
    )
    with pytest.raises(ValueError, match=sentence):
        _default()(_logits(2), _targets(1, 1, shape=(4, 5, 2)))
