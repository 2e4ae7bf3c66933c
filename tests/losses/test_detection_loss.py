from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.data.box_utils import box_pair_giou
from monai.losses import FocalLoss
from torch import nn

from losses import DetectionLoss, HardNegativeLoss, atss_match
from networks.box_ops import nms
from networks.decode_boxes import decode_boxes

_SIZE = (24, 20, 12)
_STRIDES = [(4, 4, 2), (8, 8, 4)]
_SHAPES = [(6, 5, 6), (3, 3, 3)]
_BOXES = torch.tensor([[2.0, 3.0, 1.0, 8.5, 9.0, 4.0], [14.0, 10.0, 6.0, 17.0, 13.0, 8.0]])

Outputs = dict[str, list[torch.Tensor]]


def _outputs(samples: int, *, spread: float = 1.0) -> Outputs:
    generator = torch.Generator().manual_seed(samples)

    def maps(channels: int) -> list[torch.Tensor]:
        shapes = [(samples, channels, *shape) for shape in _SHAPES]
        values = [spread * torch.randn(shape, generator=generator) for shape in shapes]
        return [value.requires_grad_() for value in values]

    return {"logits": maps(1), "offsets": maps(3), "log_sizes": maps(3)}


def _targets(*boxes: torch.Tensor) -> dict[str, Any]:
    table = torch.zeros(len(boxes), 3, 6)
    for row, own in zip(table, boxes, strict=True):
        row[: len(own)] = own
    return {
        "boxes_voxel": table,
        "box_count": torch.tensor([len(own) for own in boxes]),
        "patient_id": [f"patient-{index}" for index in range(len(boxes))],
    }


def _naive(outputs: Outputs, boxes: list[torch.Tensor], lambda_giou: float) -> dict[str, float]:
    """Cell by cell, with the matches as given."""
    sums = dict.fromkeys(("box_p_loss", "centre_loss", "size_loss", "giou_loss"), 0.0)
    positives = 0
    for sample, own in enumerate(boxes):
        matches = atss_match(own, _SHAPES, _STRIDES, anchor_scale=2.0, candidates=9)
        owner = dict(zip(matches.cell.tolist(), matches.box.tolist(), strict=True))
        positives += len(owner)
        cell = 0
        for level, (shape, stride) in enumerate(zip(_SHAPES, _STRIDES, strict=True)):
            for index in torch.cartesian_prod(*map(torch.arange, shape)):
                at = (sample, slice(None), *index)
                p = outputs["logits"][level][at].sigmoid().item()
                if cell in owner:
                    sums["box_p_loss"] -= 0.25 * (1 - p) ** 2 * math.log(p)
                    steps = torch.tensor(stride)
                    low, high = own[owner[cell]].chunk(2)
                    offset = ((low + high) / 2 - (index + 0.5) * steps) / steps
                    log_size = ((high - low) / steps).log()
                    found = outputs["offsets"][level][at], outputs["log_sizes"][level][at]
                    sums["centre_loss"] += (found[0] - offset).abs().mean().item()
                    sums["size_loss"] += (found[1] - log_size).abs().mean().item()
                    centre, half = (index + 0.5 + found[0]) * steps, found[1].exp() * steps / 2
                    box = torch.cat((centre - half, centre + half))
                    giou = box_pair_giou(box[None], own[owner[cell]][None])
                    sums["giou_loss"] += 1 - giou.item()
                else:
                    sums["box_p_loss"] -= 0.75 * p**2 * math.log(1 - p)
                cell += 1
    divisor = max(positives, len(boxes))
    terms = {name: value / divisor for name, value in sums.items()}
    weights = {"giou_loss": lambda_giou}
    terms["loss"] = sum(weights.get(name, 1) * value for name, value in terms.items())
    return terms | {"positive_cells": positives / len(boxes)}


@pytest.mark.parametrize("lambda_giou", [0.0, 0.5])
def test_the_terms_are_those_of_a_loop_over_all_cells(lambda_giou: float) -> None:
    outputs, boxes = _outputs(3), [_BOXES, _BOXES[:0], _BOXES[1:]]
    loss = DetectionLoss(_STRIDES, lambda_giou=lambda_giou)
    terms = loss.terms(outputs, _targets(*boxes))
    expected = _naive(outputs, boxes, lambda_giou)
    if not lambda_giou:
        del expected["giou_loss"]
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, 1e-5)
    assert next(iter(terms)) == "loss" and all(value.ndim == 0 for value in terms.values())
    assert loss(outputs, _targets(*boxes)).item() == terms["loss"].item()


def test_the_overlay_of_the_first_rung_is_plain_cross_entropy_and_squares() -> None:
    # One cell for the whole image: p, centre and size of its largest box.
    outputs = {
        "logits": [torch.tensor([[0.3], [-0.2]]).view(2, 1, 1, 1, 1)],
        "offsets": [torch.full((2, 3, 1, 1, 1), 0.1)],
        "log_sizes": [torch.full((2, 3, 1, 1, 1), -1.0)],
    }
    loss = DetectionLoss(
        [_SIZE],
        classification=FocalLoss(gamma=0.0, reduction="none"),
        regression=nn.MSELoss(reduction="none"),
    )
    terms = loss.terms(outputs, _targets(_BOXES, _BOXES[:0]))
    size = torch.tensor(_SIZE)
    centre = (_BOXES[0, :3] + _BOXES[0, 3:]) / 2 / size - 0.5
    log_size = ((_BOXES[0, 3:] - _BOXES[0, :3]) / size).log()
    assert terms["box_p_loss"].item() == pytest.approx(
        (math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-0.2))) / 2
    )
    assert terms["centre_loss"].item() == pytest.approx(((0.1 - centre) ** 2).mean().item() / 2)
    assert terms["size_loss"].item() == pytest.approx(((-1 - log_size) ** 2).mean().item() / 2)


@pytest.mark.parametrize("boxes", [(_BOXES, _BOXES[:0]), (_BOXES[:0], _BOXES[:0])])
@pytest.mark.parametrize("lambda_giou", [0.0, 1.0])
def test_without_a_box_in_a_sample_or_the_batch_every_output_has_a_finite_gradient(
    boxes: tuple[torch.Tensor, ...], lambda_giou: float
) -> None:
    outputs = _outputs(2)
    loss = DetectionLoss(_STRIDES, lambda_giou=lambda_giou)(outputs, _targets(*boxes))
    loss.backward()
    assert loss.isfinite() and loss > 0
    for name, maps in outputs.items():
        for level in maps:
            assert level.grad is not None and level.grad.isfinite().all()
            has_box = name == "logits" or bool(len(boxes[0]))
            assert level.grad[0].any() == has_box or level.shape[2:] == _SHAPES[1]
            assert name == "logits" or not level.grad[1].any()


def test_a_batch_without_a_box_is_divided_by_its_samples() -> None:
    outputs = _outputs(2)
    none = _BOXES[:0]
    twice = {name: [torch.cat((level, level)) for level in maps] for name, maps in outputs.items()}
    loss = DetectionLoss(_STRIDES)
    once = loss(outputs, _targets(none, none))
    torch.testing.assert_close(once, loss(twice, _targets(none, none, none, none)))


def test_perfect_outputs_cost_nothing() -> None:
    matches = atss_match(_BOXES, _SHAPES, _STRIDES, anchor_scale=2.0, candidates=9)
    cells = sum(math.prod(shape) for shape in _SHAPES)
    logits = torch.full((cells, 1), -20.0)
    offsets, log_sizes = torch.zeros(cells, 3), torch.zeros(cells, 3)
    low, high = _BOXES[matches.box].double().chunk(2, dim=1)
    logits[matches.cell] = 20
    centre = (low + high) / 2 - matches.centre_voxel
    offsets[matches.cell] = (centre / matches.stride_voxel).float()
    log_sizes[matches.cell] = ((high - low) / matches.stride_voxel).log().float()

    def maps(values: torch.Tensor) -> list[torch.Tensor]:
        parts = values.split([math.prod(shape) for shape in _SHAPES])
        return [p.T.reshape(1, -1, *shape) for p, shape in zip(parts, _SHAPES, strict=True)]

    outputs = {"logits": maps(logits), "offsets": maps(offsets), "log_sizes": maps(log_sizes)}
    loss = DetectionLoss(_STRIDES, lambda_giou=1.0)
    assert loss(outputs, _targets(_BOXES)).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("lambda_giou", [0.0, 1.0])
def test_free_outputs_learn_two_boxes_in_a_hundred_steps(lambda_giou: float) -> None:
    outputs = _outputs(1, spread=0.1)
    loss = DetectionLoss(_STRIDES, lambda_giou=lambda_giou)
    targets = _targets(_BOXES)
    optimizer = torch.optim.Adam([level for maps in outputs.values() for level in maps], lr=0.1)
    for step in range(100):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 100)
        optimizer.zero_grad()
        loss(outputs, targets).backward()
        optimizer.step()
    ((boxes, scores),) = decode_boxes(outputs, _STRIDES, top_k=50, min_score=0.5)
    kept = boxes[nms(boxes, scores, 0.3)]
    assert kept.shape == _BOXES.shape
    order = kept[:, 0].argsort()
    torch.testing.assert_close(kept[order], _BOXES, atol=0.1, rtol=0)


def test_a_loss_that_is_not_finite_names_the_sample_and_the_term() -> None:
    targets = _targets(_BOXES, _BOXES[:1])
    matches = atss_match(_BOXES[:1], _SHAPES, _STRIDES, anchor_scale=2.0, candidates=9)
    cell = int(matches.cell[0])
    for name, value, lambda_giou, expected in (
        ("logits", math.nan, 0.0, "box_p_loss must be finite, got nan for patient patient-1"),
        ("offsets", math.inf, 1.0, "centre_loss must be finite, got inf for patient patient-1"),
        ("log_sizes", math.nan, 0.0, "size_loss must be finite, got nan for patient patient-1"),
        ("log_sizes", 1e4, 1.0, "giou_loss must be finite, got nan for patient patient-1"),
    ):
        outputs = _outputs(2)
        with torch.no_grad():
            outputs[name][0][1].flatten(1)[:, cell] = value
        with pytest.raises(ValueError, match=expected):
            DetectionLoss(_STRIDES, lambda_giou=lambda_giou)(outputs, targets)


def test_a_fault_that_a_batch_norm_has_spread_names_all_samples_once() -> None:
    outputs, targets = _outputs(3), _targets(_BOXES, _BOXES[:0], _BOXES)
    targets["patient_id"] = ["twice", "once", "twice"]  # patches of one patient
    with torch.no_grad():
        outputs["logits"][0].fill_(math.nan)
    names = "got nan for patient twice, nan for patient once$"
    with pytest.raises(ValueError, match=f"box_p_loss must be finite, {names}"):
        DetectionLoss(_STRIDES)(outputs, targets)
    with torch.no_grad():
        outputs["logits"][0][1:] = 0  # the same patient's other patch is fine
    with pytest.raises(ValueError, match=r"got nan for patient twice$"):
        DetectionLoss(_STRIDES)(outputs, targets)


@pytest.mark.parametrize("lambda_giou", [0.0, 1.0])
@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ([math.nan] * 6, "centre_loss must be finite, got nan"),
        ([2.0, 2, 2, 2, 9, 9], "size_loss must be finite, got inf"),
        ([9.0, 9, 9, 5, 5, 5], "size_loss must be finite, got nan"),
    ],
    ids=["nan", "zero", "reversed"],
)
def test_a_box_that_is_none_names_the_sample(
    box: list[float], sentence: str, lambda_giou: float
) -> None:
    targets = _targets(_BOXES, torch.tensor([box]))
    with pytest.raises(ValueError, match=f"{sentence} for patient patient-1"):
        DetectionLoss(_STRIDES, lambda_giou=lambda_giou)(_outputs(2), targets)


@pytest.mark.parametrize(
    "boxes",
    [
        [[10.0, 10, 5, 11, 11, 6]],
        [[0.0, 0, 0, 1, 1, 1]],
        [[-50.0, -40, -30, 80, 80, 40]],
        [[-5.0, -5, -3, 5, 5, 3]],
        [[20.0, 17, 10, 27.999, 22.999, 13.999]],
        [[10.0, 10, 4, 15, 15, 8]] * 2,
        [[10.0, 10, 4, 11, 11, 5]] * 3,
        [[4.0, 4, 2, 16, 16, 8], [9, 9, 4, 11, 11, 5]],
        [[2.0, 2, 3, 20, 18, 4]],
    ],
    ids=["voxel", "corner", "larger", "start", "end", "identical", "same voxel", "nested", "flat"],
)
@pytest.mark.parametrize("lambda_giou", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classification", [None, HardNegativeLoss(3, 8)], ids=["focal", "hard"])
def test_every_odd_box_trains(
    boxes: list[list[float]],
    lambda_giou: float,
    dtype: torch.dtype,
    classification: nn.Module | None,
) -> None:
    own = torch.tensor(boxes)
    matches = atss_match(own, _SHAPES, _STRIDES, anchor_scale=2.0, candidates=9)
    assert torch.bincount(matches.box, minlength=len(own)).min() > 0
    outputs = {
        name: [level.detach().to(dtype).requires_grad_() for level in maps]
        for name, maps in _outputs(2).items()
    }
    loss = DetectionLoss(_STRIDES, lambda_giou=lambda_giou, classification=classification)
    # As in MONAI's trainer, which calls the loss under autocast too.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(outputs, _targets(own, own[:0]))
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    for name, maps in outputs.items():
        grads = torch.cat([level.grad.flatten(1) for level in maps if level.grad is not None], 1)
        assert grads.isfinite().all() and grads[0].any()
        assert bool(grads[1].any()) == (name == "logits")


def test_half_precision_outputs_are_compared_in_single() -> None:
    outputs = {
        name: [level.detach().bfloat16() for level in maps] for name, maps in _outputs(1).items()
    }
    wide = {name: [level.float() for level in maps] for name, maps in outputs.items()}
    loss, targets = DetectionLoss(_STRIDES, lambda_giou=1.0), _targets(_BOXES)
    value = loss(outputs, targets)
    assert value.dtype == torch.float32 and torch.equal(value, loss(wide, targets))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="lambda_giou must be 0 or more, got nan"):
        DetectionLoss(_STRIDES, lambda_giou=math.nan)
    with pytest.raises(ValueError, match="anchor_scale must be above 0 and candidates at least 1"):
        DetectionLoss(_STRIDES, candidates=0)
    with pytest.raises(ValueError, match="as many levels as level_strides, got 2 and 1"):
        DetectionLoss(_STRIDES[:1])(_outputs(1), _targets(_BOXES))
