from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.inferers.inferer import Inferer
from torch import nn

from cohorts import ReadableScans
from handlers import PrepareTargets, SegmentationEvaluation
from metrics import SIZE_CLASSES, NoduleSegmentation
from metrics.segmentation_values import NODULE_VALUES

_SHAPE = (40, 30, 20)
# Voxels of 2 mm3: x and y run to the patient's left and back, as of most scans.
_AFFINE = np.diag([-1.0, -1, 2, 1])
_AFFINE[:3, 3] = [10, 20, -30]
_CUBE = ((2, 2, 2), (10, 10, 6))  # 512 mm3, 9.93 mm
_SMALL = ((20, 20, 10), (24, 24, 12))  # 64 mm3, 4.96 mm


def _item(patient: str, true: list[Any], predicted: list[Any]) -> dict[str, Any]:
    return {"patient_id": patient, "image": patient, "true": true, "predicted": predicted}


def _mask(boxes: list[Any], rank: int = 3) -> np.ndarray:
    labels = np.zeros(_SHAPE, dtype=np.int16)
    for number, (first, last) in enumerate(boxes, start=1):
        labels[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] = number
    return labels if rank == 3 else labels[..., 3]


# One nodule found too small and one missed, a false component; one found; nothing at all.
ITEMS = [
    _item("p1", [_CUBE, _SMALL], [((2, 2, 2), (10, 8, 6)), ((30, 20, 10), (35, 25, 12))]),
    _item("p2", [_SMALL], [_SMALL]),
    _item("p3", [], []),
]
BROKEN = _item("broken", [], [])


class _GivenMask(Inferer):
    """What the image holds, as logits."""

    def __call__(self, inputs, network, *args, **kwargs):
        return {"logits": inputs.as_tensor() - 0.5, "affine": inputs.affine.reshape(-1, 4, 4)[0]}


def _run(items, output_dir: Path, *, rank: int = 3, **settings) -> SegmentationEvaluation:
    affine = torch.from_numpy(_AFFINE)

    def sample(item):
        if item["patient_id"] == "broken":
            raise ValueError("broken: the file must exist")
        image, mask = (
            torch.from_numpy(_mask(item[key], rank))[None] for key in ("predicted", "true")
        )
        return {
            "patient_id": item["patient_id"],
            "image": MetaTensor((image > 0).float(), affine),
            "mask": MetaTensor(mask, affine),
            "mask_affine": affine,
        }

    dataset = ReadableScans(items, sample)
    metric = NoduleSegmentation(output_transform=from_engine(["pred", "label"]))
    writer = SegmentationEvaluation(output_dir, dataset, segmentation=metric, **settings)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=nn.Identity(),
        inferer=_GivenMask(),
        prepare_batch=PrepareTargets(["mask", "mask_affine", "patient_id"], with_attention=False),
        key_val_metric={"dice": metric},
        val_handlers=[writer],
        decollate=False,
    ).run()
    return writer


def _evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_cohort_by_hand(tmp_path):
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"name": "phantoms", "synthetic": True}))
    _run(ITEMS, tmp_path, datalist=datalist).finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["intended_use"] == "Research use only; not for clinical decisions."
    assert [evaluation[key] for key in ("datalist", "synthetic")] == ["phantoms", True]
    counts = ("scans", "nodules", "found", "components", "false_components")
    assert [evaluation[key] for key in counts] == [3, 3, 2, 3, 1]
    assert evaluation["failed"] == []
    metrics = evaluation["metrics"]
    dice = 2 * 384 / (512 + 384)
    assert metrics["dice"] == pytest.approx((dice + 0 + 1) / 3)
    assert metrics["sensitivity"] == pytest.approx(2 / 3)
    assert metrics["volume_bias_percent"] == pytest.approx(-12.5)
    by_size = evaluation["by_size"]
    assert list(by_size) == list(SIZE_CLASSES)
    small, larger = by_size["under_6_mm"], by_size["8_to_10_mm"]
    assert (small["nodules"], small["found"], small["dice"], small["sensitivity"]) == (
        2,
        1,
        0.5,
        0.5,
    )
    assert (small["dice_found"], small["surface_distance_mm"]) == (1, 0)
    assert (larger["nodules"], larger["found"]) == (1, 1)
    assert larger["dice"] == pytest.approx(dice)
    assert larger["volume_error_percent"] == pytest.approx(25)
    assert by_size["6_to_8_mm"] == {"nodules": 0, "found": 0, **dict.fromkeys(NODULE_VALUES)}
    assert (tmp_path / "nodules.png").read_bytes().startswith(b"\x89PNG")


def test_each_scan_by_hand(tmp_path):
    _run(ITEMS, tmp_path)
    rows = _rows(tmp_path, "per_scan")
    assert [row["patient_id"] for row in rows] == ["p1", "p2", "p3"]
    dice = 2 * 384 / (512 + 384)
    for column, values in {
        "nodules": [2, 1, 0],
        "found": [1, 1, 0],
        "components": [2, 1, 0],
        "false_components": [1, 0, 0],
        "dice": [2 * 384 / (576 + 484), 1, math.nan],
        "summed_dice": [dice, 1, 0],
        "summed_dice_found": [dice, 1, 0],
        "volume_mm3": [576, 64, 0],
        "predicted_mm3": [484, 64, 0],
        "false_mm3": [100, 0, 0],
        "nodules_under_6_mm": [1, 1, 0],
        "found_under_6_mm": [0, 1, 0],
        "summed_dice_under_6_mm": [0, 1, 0],
        "nodules_8_to_10_mm": [1, 0, 0],
        "summed_dice_8_to_10_mm": [dice, 0, 0],
        "nodules_15_mm_and_more": [0, 0, 0],
    }.items():
        found = [float(row[column] or "nan") for row in rows]
        assert found == pytest.approx(values, nan_ok=True), column


def test_each_nodule_by_hand(tmp_path):
    _run(ITEMS, tmp_path)
    rows = _rows(tmp_path, "nodules")
    assert [row["patient_id"] for row in rows] == ["p1", "p1", "p2"]
    assert [row["instance"] for row in rows] == ["1", "2", "1"]
    assert [row["nodules_in_scan"] for row in rows] == ["2", "2", "1"]
    assert [row["found"] for row in rows] == ["yes", "no", "yes"]
    assert [row["size_class"] for row in rows] == ["8_to_10_mm", "under_6_mm", "under_6_mm"]
    # Middles of voxels 2 to 9, 2 to 9 and 2 to 5; LPS turns x and y of RAS.
    place = [float(rows[0][f"coord{axis}"]) for axis in "XYZ"]
    assert place == pytest.approx([5.5 - 10, 5.5 - 20, -30 + 7])
    assert float(rows[0]["diameter_mm"]) == pytest.approx((6 * 512 / math.pi) ** (1 / 3))
    assert float(rows[0]["volume_error_percent"]) == -25
    assert float(rows[0]["absolute_volume_error_percent"]) == 25
    assert float(rows[0]["hausdorff_95_mm"]) == 2
    assert (float(rows[1]["dice"]), float(rows[1]["predicted_mm3"])) == (0, 0)
    missing = ("surface_distance_mm", "hausdorff_95_mm", "volume_error_percent")
    assert {rows[1][name] for name in missing} == {""}


def test_with_ten_patients_a_size_class_has_intervals(tmp_path):
    items = [item | {"patient_id": f"q{n}"} for n, item in enumerate((ITEMS[:2] * 5)[:10])]
    _run(items, tmp_path)
    evaluation = _evaluation(tmp_path)
    small, larger = (evaluation["by_size"][size] for size in ("under_6_mm", "8_to_10_mm"))
    assert small["dice_low"] < small["dice"] < small["dice_high"]
    assert "dice_low" not in larger
    sums = [
        sum(float(row[name]) for row in _rows(tmp_path, "per_scan"))
        for name in ("summed_dice", "nodules")
    ]
    assert sums[0] / sums[1] == pytest.approx(evaluation["metrics"]["dice"])


def test_no_nodule_in_any_scan(tmp_path):
    (tmp_path / "nodules.png").touch()
    _run([_item("p1", [], ITEMS[0]["predicted"]), ITEMS[2]], tmp_path)
    evaluation = _evaluation(tmp_path)
    assert evaluation["metrics"] == {
        "dice": None,
        "false_components_per_scan": 1,
        "scan_dice": 0,
    }
    assert evaluation["by_size"]["under_6_mm"]["dice"] is None
    assert _rows(tmp_path, "nodules") == []
    assert not (tmp_path / "nodules.png").exists()


def test_no_mask_in_any_scan(tmp_path):
    _run([_item("p1", [_CUBE], [])], tmp_path)
    evaluation = _evaluation(tmp_path)
    assert evaluation["metrics"]["dice"] == evaluation["metrics"]["sensitivity"] == 0
    assert "dice_found" not in evaluation["metrics"]
    assert evaluation["by_size"]["8_to_10_mm"]["dice_found"] is None
    assert (tmp_path / "nodules.png").exists()


def test_in_2d(tmp_path):
    _run(ITEMS, tmp_path, rank=2)
    rows = _rows(tmp_path, "nodules")
    assert [(row["volume_mm3"], row["coordZ"]) for row in rows] == [("64.0", "0.0")]
    assert float(rows[0]["diameter_mm"]) == pytest.approx(2 * math.sqrt(64 / math.pi))
    assert _evaluation(tmp_path)["metrics"]["dice"] == pytest.approx(2 * 48 / (64 + 48))


def test_failed_scans_are_listed_and_the_exit_code_is_not_zero(tmp_path):
    writer = _run([ITEMS[0], BROKEN, ITEMS[1]], tmp_path)
    with pytest.raises(SystemExit, match="1 of 3 scans failed, the first: broken: the file"):
        writer.finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["failed"] == [{"scan": "broken", "error": "broken: the file must exist"}]
    assert evaluation["scans"] == 2


def test_when_all_fail_the_files_are_there_without_a_number(tmp_path):
    with pytest.raises(SystemExit, match="1 of 1 scans failed"):
        _run([BROKEN], tmp_path).finish()
    evaluation = _evaluation(tmp_path)
    assert (evaluation["scans"], evaluation["nodules"]) == (0, 0)
    assert evaluation["metrics"] == {"dice": None}
    assert _rows(tmp_path, "per_scan") == _rows(tmp_path, "nodules") == []


def test_an_unusable_output_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="output_dir must be a writable folder"):
        _run(ITEMS, tmp_path / "out")
