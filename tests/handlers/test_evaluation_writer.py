from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from torch import nn

from cohorts import ReadableScans
from handlers import EvaluationWriter, PrepareTargets
from metrics import AttentionLocalization, Auroc

SCORES = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])).reshape(2, 2, 1)


class ScoresFromTheImage(nn.Module):
    def forward(self, image, with_attention=False):
        return {"logits": image.amax(dim=(1, 2, 3, 4))[:, None], "scores": image}


def _sample(item):
    if item["patient_id"] == "broken":
        raise ValueError("broken: the file must exist")
    mask = torch.zeros(1, 2, 2, 1)
    mask[0, :, 1] = item["risk"]
    return {
        **item,
        "image": SCORES[None] * item["sign"],
        "box_mask": mask,
        "lost_boxes": item.get("lost_boxes", 0),
    }


ITEMS = [
    {"image": "a", "patient_id": "p1", "risk": 1, "sign": 1.0},
    {"image": "b", "patient_id": "p2", "risk": 0, "sign": 1.0, "lost_boxes": 2},
    {"image": "c", "patient_id": "p3", "risk": 1, "sign": -1.0},
]
BROKEN = {"image": "d", "patient_id": "broken", "risk": 1, "sign": 1.0}


def _run(items, output_dir: Path, **settings) -> EvaluationWriter:
    dataset = ReadableScans(items, _sample)
    writer = EvaluationWriter(output_dir, dataset, **settings)
    transform = from_engine(["pred", "label"])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=2, num_workers=0),
        network=ScoresFromTheImage(),
        prepare_batch=PrepareTargets(["risk", "box_mask", "lost_boxes", "patient_id"]),
        key_val_metric={"auroc": Auroc(output_transform=transform)},
        additional_metrics={"where": AttentionLocalization(output_transform=transform)},
        val_handlers=[writer],
        decollate=False,
    ).run()
    return writer


def _evaluation(output_dir: Path) -> dict:
    return json.loads((output_dir / "evaluation.json").read_text())


def _rows(output_dir: Path) -> list[dict[str, str]]:
    with (output_dir / "per_scan.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_numbers_by_hand(tmp_path):
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"name": "phantoms", "synthetic": True}))
    _run(ITEMS, tmp_path, datalist=datalist).finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["intended_use"] == "Research use only; not for clinical decisions."
    assert [evaluation[key] for key in ("datalist", "synthetic")] == ["phantoms", True]
    assert [evaluation[key] for key in ("scans", "positives", "failed")] == [3, 2, []]
    # Attention .1 .2 .3 .4 on a lesion of the second and fourth cell; turned around for p3.
    turned = np.array([1 / 0.2, 1 / 0.4]).sum() / np.array([10, 5, 10 / 3, 2.5]).sum()
    assert evaluation["metrics"]["attention_mass"] == pytest.approx((0.6 + turned) / 2)
    assert evaluation["metrics"]["lesion_scans"] == 2
    rows = _rows(tmp_path)
    assert [row["patient_id"] for row in rows] == ["p1", "p2", "p3"]
    assert [row["risk"] for row in rows] == ["1", "0", "1"]
    assert float(rows[0]["predicted_risk"]) == pytest.approx(1 / (1 + 1 / 0.4))
    assert float(rows[0]["attention_mass"]) == pytest.approx(0.6)
    assert [row["chance"] for row in rows] == ["0.5", "0.0", "0.5"]
    assert [row["hit"] for row in rows] == ["1.0", "", "0.0"]
    assert rows[1]["attention_mass"] == ""
    assert [row["lost_boxes"] for row in rows] == ["0", "2", "0"]
    assert evaluation["lost_boxes"] == 2


def test_failed_scans_are_listed_and_the_exit_code_is_not_zero(tmp_path):
    writer = _run([ITEMS[0], BROKEN, ITEMS[1]], tmp_path)
    with pytest.raises(SystemExit, match="1 of 3 scans failed, the first: d: broken: the file"):
        writer.finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["failed"] == [{"scan": "d", "error": "broken: the file must exist"}]
    assert evaluation["scans"] == 2
    assert evaluation["synthetic"] is None


def test_when_all_fail_the_metrics_have_no_value(tmp_path):
    writer = _run([BROKEN], tmp_path)
    with pytest.raises(SystemExit, match="1 of 1 scans failed"):
        writer.finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["metrics"]["auroc"] is None
    assert evaluation["scans"] == evaluation["positives"] == 0
    assert _rows(tmp_path) == []


def test_an_unusable_output_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="output_dir must be a writable folder"):
        _run(ITEMS, tmp_path / "out")
