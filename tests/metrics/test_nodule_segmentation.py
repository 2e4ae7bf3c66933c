from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from metrics import NoduleSegmentation, nodule_values, segmentation_values, segmented_scan
from metrics.segmentation_values import cohort_nodules

_AFFINE = torch.diag(torch.tensor([1.0, 1, 2, 1], dtype=torch.float64))
_SHAPE = (16, 16, 8)


def _masks(*boxes):
    """Labels of cubes, each given by its first and last corner."""
    labels = np.zeros(_SHAPE, dtype=np.int16)
    for number, (first, last) in enumerate(boxes, start=1):
        labels[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = number
    return labels


# Nodules of 32 voxels of 2 mm3: whole, three quarters and too large, missed with a false one.
_CUBE = ((2, 2, 2), (6, 6, 4))
_SCANS = {
    "a": (_masks(_CUBE), _masks(_CUBE)),
    "b": (
        _masks(_CUBE, ((8, 8, 2), (12, 12, 4))),
        _masks(((2, 2, 2), (6, 5, 4)), ((8, 8, 2), (12, 14, 4))),
    ),
    "c": (_masks(_CUBE), _masks(((10, 10, 2), (14, 14, 4)))),
    "d": (_masks(), _masks()),
}


def _judged(patients):
    return [
        segmented_scan(_SCANS[p][0], _SCANS[p][1] > 0, _AFFINE.numpy(), patient_id=p)
        for p in patients
    ]


def _batch(patients, shape=_SHAPE):
    truth, predicted = (
        torch.stack([torch.from_numpy(_SCANS[p][index]) for p in patients])[:, None]
        for index in (0, 1)
    )
    logits = torch.where(predicted > 0, 3.0, -3.0)
    outputs = {"logits": logits, "affine": _AFFINE}
    affines = _AFFINE.expand(len(patients), 4, 4)
    return outputs, {"mask": truth, "mask_affine": affines, "patient_id": list(patients)}


def test_the_values_by_hand():
    values = segmentation_values(_judged("abcd"))
    dice = [1, 2 * 24 / 56, 2 * 32 / 80, 0]
    assert values["dice"] == pytest.approx(np.mean(dice))
    assert values["sensitivity"] == 0.75
    assert values["dice_found"] == pytest.approx(np.mean(dice[:3]))
    # Errors of 0, -25 and 50 per cent.
    assert values["volume_error_percent"] == pytest.approx(25)
    assert values["volume_bias_percent"] == pytest.approx(0)
    # The missing row of 8 voxels lies beside the others at 1 mm, as does the one behind it.
    assert 0 < values["surface_distance_mm"] < values["hausdorff_95_mm"] < 2
    assert values["false_components_per_scan"] == 0.25
    assert values["scan_dice"] == pytest.approx(np.mean([1, 2 * 56 / (64 + 72), 0]))
    assert not any(name.endswith(("_low", "_high")) for name in values)


def test_intervals_are_of_patients_and_need_ten_of_them():
    patients = [f"p{number}" for number in range(10)]
    scans = [
        scan._replace(patient_id=patient)
        for patient, scan in zip(patients, _judged("abcabcabca"), strict=True)
    ]
    values = segmentation_values(scans)
    for name in ("dice", "sensitivity", "false_components_per_scan", "scan_dice"):
        assert values[f"{name}_low"] < values[name] < values[f"{name}_high"], name
    assert "dice_found_low" not in values  # seven patients have a found one
    whole = nodule_values(cohort_nodules(scans[:1] * 5))
    assert whole == {**dict.fromkeys(whole, 0), "dice": 1, "sensitivity": 1, "dice_found": 1}


def test_no_nodule_and_none_found():
    assert nodule_values([]) == {}
    assert segmentation_values([]) == {}
    assert segmentation_values(_judged("d")) == {"false_components_per_scan": 0}
    values = segmentation_values(_judged("c"))
    assert values == {
        "dice": 0,
        "sensitivity": 0,
        "false_components_per_scan": 1,
        "scan_dice": 0,
    }


def test_an_epoch_has_the_values_of_its_scans_under_the_attached_name():
    evaluator = Engine(lambda _engine, batch: batch)
    metric = NoduleSegmentation()
    metric.attach(evaluator, "nodule_dice")
    state = evaluator.run([_batch("ab"), _batch("c"), _batch("d")])
    assert metric.scans == _judged("abcd")
    expected = segmentation_values(_judged("abcd"))
    expected["nodule_dice"] = expected.pop("dice")
    assert state.metrics == expected
    # The next epoch finds nothing: what was said of found nodules goes.
    state = evaluator.run([_batch("c")])
    assert metric.scans == _judged("c")
    assert state.metrics == {
        "nodule_dice": 0,
        "sensitivity": 0,
        "false_components_per_scan": 1,
        "scan_dice": 0,
    }


def test_without_a_nodule_one_warning_and_minus_one(caplog):
    evaluator = Engine(lambda _engine, batch: batch)
    NoduleSegmentation().attach(evaluator, "dice")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            state = evaluator.run([_batch("d")])
            assert state.metrics == {"dice": -1, "false_components_per_scan": 0}
    assert [record.message for record in caplog.records] == [
        "the Dice of nodules needs a nodule, got none in 1 scans: it is reported as -1"
    ]
    metric = NoduleSegmentation()
    assert metric.compute() == {"dice": -1}


def test_logits_of_another_grid_are_brought_to_that_of_the_mask():
    # The network saw the scan cropped and at half the in-plane resolution, left and right swapped.
    truth = np.zeros((24, 24, 10), dtype=np.int16)
    truth[6:14, 8:16, 3:7] = 4
    image_affine = torch.tensor([[-2.0, 0, 0, 18.5], [0, 2, 0, 4.5], [0, 0, 1, 2], [0, 0, 0, 1]])
    logits = torch.full((1, 1, 9, 9, 7), -1.0)
    # These cells are 2 x 2 voxels each; their middles lie at 12.5 ... 6.5, 8.5 ... 14.5, 3 ... 6.
    logits[..., 3:7, 2:6, 1:5] = 1
    targets = {
        "mask": torch.from_numpy(truth)[None, None],
        "mask_affine": torch.eye(4, dtype=torch.float64)[None],
        "patient_id": ["p"],
    }
    metric = NoduleSegmentation()
    metric.update(({"logits": logits, "affine": image_affine}, targets))
    (nodule,) = metric.scans[0].nodules
    assert (nodule.instance, nodule.dice) == (4, 1)


def test_in_2d_and_of_masks_that_were_resampled():
    labels = torch.from_numpy(_SCANS["b"][0][..., 2]).float()
    affine = torch.eye(3, dtype=torch.float64)
    outputs = {"logits": labels[None, None] - 0.5, "affine": affine}
    targets = {
        "mask": labels[None, None],
        "mask_affine": affine[None],
        "patient_id": ["p"],
    }
    metric = NoduleSegmentation()
    metric.update((outputs, targets))
    assert metric.compute()["dice"] == 1
    assert [nodule.volume_mm3 for nodule in metric.scans[0].nodules] == [16, 16]


def test_what_is_refused():
    outputs, targets = _batch("a")
    with pytest.raises(ValueError, match="logits must be of one class, nodule, got 2"):
        NoduleSegmentation().update(
            ({**outputs, "logits": outputs["logits"].repeat(1, 2, 1, 1, 1)}, targets)
        )
    outputs["logits"][0, 0, 3, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="a: logits must be finite"):
        NoduleSegmentation().update((outputs, targets))
