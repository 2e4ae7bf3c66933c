from __future__ import annotations

import csv
import hashlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from torch import nn

from cohorts import ReadableScans
from handlers import PrepareTargets, RiskEvaluation
from handlers.scan_rows import scan_rows
from metrics import (
    AttentionLocalization,
    Auroc,
    brier_score,
    calibration_errors,
    expected_calibration_error,
)
from networks import RiskCalibration

SCORES = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])).reshape(2, 2, 1)


class ScoresFromTheImage(nn.Module):
    """The logit is the highest score; that of each earlier year is 1 lower."""

    def __init__(self, years: int = 1) -> None:
        super().__init__()
        self.years = years

    def forward(self, image, with_attention=False):
        steps = torch.arange(1 - self.years, 1)
        return {"logits": image.amax(dim=(1, 2, 3, 4))[:, None] + steps, "scores": image}


def _sample(item):
    if item["patient_id"] == "broken":
        raise ValueError("broken: the file must exist")
    years = item.get("years", 1)
    mask = torch.zeros(2, 2, 2, 1)  # two lesions, one in each cell of the second column
    mask[0, 0, 1] = mask[1, 1, 1] = item["risk"]
    side_mask = torch.zeros(1, 2, 2, 1)
    side_mask[0, 1] = 1
    distance_mm = torch.tensor([3.0, 0.0, 5.0, 0.0]).reshape(1, 2, 2, 1)
    return {
        **item,
        "image": SCORES[None] * item["sign"] + item.get("offset", 0.0),
        "risk": torch.full((years,), float(item["risk"])),
        "risk_known": torch.tensor([1.0] * (years - 1) + [item.get("known", 1.0)]),
        "box_mask": mask,
        "box_distance_mm": distance_mm if item["risk"] else torch.full_like(distance_mm, torch.inf),
        "side_mask": side_mask,
        "side": item.get("side", "left" if item["risk"] else "none"),
        "lost_boxes": item.get("lost_boxes", 0),
    }


ITEMS = [
    {"image": "a", "patient_id": "p1", "risk": 1, "sign": 1.0},
    {"image": "b", "patient_id": "p2", "risk": 0, "sign": 1.0, "lost_boxes": 2},
    {"image": "c", "patient_id": "p3", "risk": 1, "sign": -1.0},
]
TARGETS = [
    "risk",
    "risk_known",
    "box_mask",
    "box_distance_mm",
    "side_mask",
    "side",
    "lost_boxes",
    "patient_id",
]
FOLLOW_UP = ["event", "event_years"]
BROKEN = {"image": "d", "patient_id": "broken", "risk": 1, "sign": 1.0}


def _run(items, output_dir: Path, *, years: int = 1, **settings) -> RiskEvaluation:
    dataset = ReadableScans(items, _sample)
    writer = RiskEvaluation(output_dir, dataset, **settings)
    transform = from_engine(["pred", "label"])
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=2, num_workers=0),
        network=ScoresFromTheImage(years),
        prepare_batch=PrepareTargets([*TARGETS, *FOLLOW_UP] if years > 1 else TARGETS),
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
    assert [evaluation[key] for key in ("scans", "known_scans", "positives")] == [3, 3, 2]
    assert evaluation["failed"] == []
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


def test_localization_by_hand(tmp_path):
    both = {"image": "d", "patient_id": "p4", "risk": 1, "sign": 1.0, "side": "both"}
    _run([*ITEMS, both], tmp_path)
    rows = _rows(tmp_path)
    # The peak is the last cell, within a box and the side; turned around for p3 it is the first.
    assert [row["peak_distance_mm"] for row in rows] == ["0.0", "", "3.0", "0.0"]
    assert [row["side"] for row in rows] == ["left", "none", "left", "both"]
    assert [row["side_hit"] for row in rows] == ["1.0", "", "0.0", ""]


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
    assert (evaluation["calibrated"], evaluation["screening"]) == (False, None)
    assert "brier" not in evaluation["metrics"]
    assert _rows(tmp_path) == []
    assert (tmp_path / "per_scan.csv").read_text().startswith("patient_id,risk,predicted_risk,")
    assert not (tmp_path / "reliability.png").exists()


def test_an_unusable_output_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="output_dir must be a writable folder"):
        _run(ITEMS, tmp_path / "out")


CALIBRATION = RiskCalibration(
    slope=2.0,
    intercept=-0.5,
    threshold=0.4,
    target_sensitivity=0.9,
    split="validation",
    datalist="phantoms",
    scans=12,
    positives=6,
    checkpoint_sha256=hashlib.sha256(b"weights").hexdigest(),
    patients_sha256=(hashlib.sha256(b"v1").hexdigest(),),
)
# The highest score of a sample is log(0.4) + offset, and so is its logit.
OFFSETS = (1.5, 1.2, 1.0, 0.4, -1.0, 2.0)
COHORT: list[dict[str, Any]] = [
    {
        "image": f"i{number}",
        "patient_id": f"t{number % 5}",
        "risk": int(number % 3 != 1),
        "sign": 1.0,
        "offset": OFFSETS[number % 6],
    }
    for number in range(12)
]


def _write(calibration: RiskCalibration, folder: Path) -> Path:
    path = folder / "calibration.json"
    path.write_text(json.dumps(asdict(calibration)))
    return path


def _sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits)))


def test_calibrated_numbers_by_hand(tmp_path):
    path = _write(CALIBRATION, tmp_path)
    _run(COHORT, tmp_path, calibration=path, screening_prevalence=0.02)
    evaluation, rows = _evaluation(tmp_path), _rows(tmp_path)
    logits = np.array([np.log(0.4) + item["offset"] for item in COHORT])
    labels = np.array([item["risk"] for item in COHORT])
    raw, risks = _sigmoid(logits), _sigmoid(2 * logits - 0.5)
    assert [float(row["predicted_risk"]) for row in rows] == pytest.approx(raw)
    assert [float(row["calibrated_risk"]) for row in rows] == pytest.approx(risks)
    assert not any("risk_year_1" in row for row in rows)

    metrics = evaluation["metrics"]
    assert metrics["brier"] == pytest.approx(brier_score(raw, labels, np.ones(12)))
    assert metrics["brier_calibrated"] == pytest.approx(brier_score(risks, labels, np.ones(12)))
    assert metrics["ece"] == pytest.approx(expected_calibration_error(raw, labels, np.ones(12)))
    assert metrics["ece_calibrated"] == pytest.approx(
        expected_calibration_error(risks, labels, np.ones(12))
    )
    assert "brier_low" not in metrics  # of five patients only
    assert evaluation["ece_bins"] == 10

    recalled = risks >= 0.4
    found, cancers = int((recalled & (labels == 1)).sum()), int(labels.sum())
    alarms, healthy = int((recalled & (labels == 0)).sum()), int((labels == 0).sum())
    assert 0 < found < cancers
    assert 0 < alarms < healthy
    assert metrics["sensitivity"] == pytest.approx(found / cancers)
    assert metrics["specificity"] == pytest.approx(1 - alarms / healthy)
    screening = evaluation["screening"]
    assert (screening["screens"], screening["threshold"]) == (1000, 0.4)
    assert screening["cohort"] == pytest.approx(
        {
            "prevalence": cancers / 12,
            "recalled": 1000 * (found + alarms) / 12,
            "found": 1000 * found / 12,
            "missed": 1000 * (cancers - found) / 12,
            "false_alarms": 1000 * alarms / 12,
        }
    )
    assert screening["reweighted"] == pytest.approx(
        {
            "prevalence": 0.02,
            "recalled": 20 * found / cancers + 980 * alarms / healthy,
            "found": 20 * found / cancers,
            "missed": 20 * (1 - found / cancers),
            "false_alarms": 980 * alarms / healthy,
        }
    )
    assert evaluation["calibrated"] is True
    assert evaluation["calibration"]["slope"] == 2.0
    assert "patients_sha256" not in evaluation["calibration"]
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_intervals_over_patients(tmp_path):
    items = [{**item, "patient_id": f"t{number}"} for number, item in enumerate(2 * COHORT)]
    _run(items, tmp_path, calibration=_write(CALIBRATION, tmp_path))
    metrics = _evaluation(tmp_path)["metrics"]
    labels = [item["risk"] for item in items]
    risks = [float(row["calibrated_risk"]) for row in _rows(tmp_path)]
    expected = calibration_errors(
        risks,
        labels,
        np.ones(24),
        patient_ids=[item["patient_id"] for item in items],
        suffix="_calibrated",
    )
    assert set(expected) == {
        name + end
        for name in ("brier_calibrated", "ece_calibrated")
        for end in ("", "_low", "_high")
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert metrics["sensitivity_low"] < metrics["sensitivity"] < metrics["sensitivity_high"]


def test_without_the_file_it_stays_uncalibrated(tmp_path):
    _run(COHORT, tmp_path, calibration=tmp_path / "calibration.json", screening_prevalence=0.02)
    evaluation = _evaluation(tmp_path)
    assert (evaluation["calibrated"], evaluation["calibration"]) == (False, None)
    assert evaluation["screening"] is None
    assert "brier" in evaluation["metrics"]
    assert not {"brier_calibrated", "sensitivity"} & set(evaluation["metrics"])
    assert {row["calibrated_risk"] for row in _rows(tmp_path)} == {""}


def _followed(items, years: int, event_years: list[float]) -> list[dict[str, Any]]:
    """The items as a yearly network's, with their years to diagnosis or to the end of follow-up."""
    return [
        {
            **item,
            "years": years,
            "known": float(item["risk"] or end >= years),
            "event": torch.tensor([float(item["risk"])]),
            "event_years": torch.tensor([end]),
        }
        for item, end in zip(items, event_years, strict=True)
    ]


def test_years(tmp_path):
    ends = [1.0, 3.0, 2.5, 1.5, 1.25, 0.5, 2.0, 2.5, 3.0, 1.0, 4.0, 2.5]
    items = _followed(COHORT, 3, ends)
    path = _write(CALIBRATION, tmp_path)
    _run(items, tmp_path, years=3, calibration=path, screening_prevalence=0.02)
    rows, evaluation = _rows(tmp_path), _evaluation(tmp_path)
    logit = np.log(0.4) + OFFSETS[0]
    yearly = [float(rows[0][f"risk_year_{year}"]) for year in (1, 2, 3)]
    assert yearly == pytest.approx(_sigmoid(2 * (logit + np.array([-2, -1, 0])) - 0.5))
    assert rows[0]["calibrated_risk"] == rows[0]["risk_year_3"]
    assert [row["risk"] for row in rows][3:6] == ["1", "", "1"]
    counts = [evaluation[key] for key in ("scans", "known_scans", "positives")]
    assert counts == [12, 10, 8]
    assert [float(row["event_years"]) for row in rows] == ends
    # The first censored is one of nine at 1.25 years, the second one of four at 2.5 years.
    uncensored = [1 if end <= 1.25 else 8 / 9 if end <= 2.5 else 8 / 9 * 3 / 4 for end in ends]
    weights = np.array([1 / share for share in uncensored])
    known = np.array([row["risk"] != "" for row in rows])
    assert [row["weight"] == "" for row in rows] == (~known).tolist()
    assert [float(row["weight"]) for row in rows if row["weight"]] == pytest.approx(weights[known])

    labels = np.array([item["risk"] for item in items])[known]
    risks = np.array([float(row["calibrated_risk"]) for row in rows])[known]
    raw = np.array([float(row["predicted_risk"]) for row in rows])[known]
    weights, metrics = weights[known], evaluation["metrics"]
    for suffix, forecast in (("", raw), ("_calibrated", risks)):
        brier = brier_score(forecast, labels, weights)
        assert metrics[f"brier{suffix}"] == pytest.approx(brier)
        ece = expected_calibration_error(forecast, labels, weights)
        assert metrics[f"ece{suffix}"] == pytest.approx(ece)
    cancer, recalled = labels == 1, risks >= 0.4
    sensitivity = np.average(recalled[cancer], weights=weights[cancer])
    assert 0 < sensitivity < 1
    assert metrics["sensitivity"] == pytest.approx(sensitivity)
    cohort = evaluation["screening"]["cohort"]
    prevalence = weights[cancer].sum() / weights.sum()
    assert cohort["prevalence"] == pytest.approx(prevalence)
    assert cohort["found"] == pytest.approx(1000 * prevalence * sensitivity)
    assert evaluation["screening"]["reweighted"]["found"] == pytest.approx(20 * sensitivity)


def test_when_nobody_healthy_is_followed_to_the_last_year(tmp_path, caplog):
    """No weight tells how many stay healthy; the sensitivity needs no such number."""
    items = _followed(COHORT, 3, [1.0, 2.0] * 6)
    (tmp_path / "reliability.png").touch()
    _run(items, tmp_path, years=3, calibration=_write(CALIBRATION, tmp_path))
    evaluation = _evaluation(tmp_path)
    assert {"sensitivity"} == {
        name for name in ("brier", "ece_calibrated", "sensitivity") if name in evaluation["metrics"]
    }
    assert (evaluation["known_scans"], evaluation["screening"]) == (8, None)
    assert not (tmp_path / "reliability.png").exists()
    assert "followed to the last year, got 0 in 8 scans of known label" in caplog.text


@pytest.mark.parametrize("listed", [True, False])
def test_a_calibration_of_the_same_patients_is_refused(listed, tmp_path):
    patient = (hashlib.sha256(b"t3").hexdigest(),)
    path = _write(replace(CALIBRATION, patients_sha256=patient), tmp_path)
    read: list[str] = []

    def sample(item):
        read.append(item["patient_id"])
        return _sample(item)

    sentence = r"fitted on other patients than it is judged on, got t3 in .*calibration\.json"
    dataset = ReadableScans(COHORT, sample)
    writer = RiskEvaluation(tmp_path, dataset if listed else None, calibration=path)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=2, num_workers=0),
        network=ScoresFromTheImage(),
        prepare_batch=PrepareTargets(TARGETS),
        val_handlers=[writer],
        decollate=False,
    )
    with pytest.raises(ValueError, match=sentence):
        evaluator.run()
    assert read == ([] if listed else ["t0", "t1", "t2", "t3"])
    assert not (tmp_path / "evaluation.json").exists()


def test_a_calibration_of_other_weights_is_refused(tmp_path):
    path, checkpoint = _write(CALIBRATION, tmp_path), tmp_path / "model.pt"
    checkpoint.write_bytes(b"weights")
    _run(COHORT, tmp_path, calibration=path, checkpoint=checkpoint)
    assert _evaluation(tmp_path)["calibrated"] is True
    checkpoint.write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"must be of the weights it is applied to, got .*model"):
        _run(COHORT, tmp_path, calibration=path, checkpoint=checkpoint)


def test_no_cancer_has_no_reweighted_table(tmp_path, caplog):
    items = [{**item, "risk": 0} for item in COHORT]
    with caplog.at_level(logging.WARNING):
        _run(items, tmp_path, calibration=_write(CALIBRATION, tmp_path), screening_prevalence=0.02)
    evaluation = _evaluation(tmp_path)
    assert evaluation["screening"]["cohort"]["prevalence"] == 0
    assert evaluation["screening"]["reweighted"] is None
    assert "of prevalence 0.02 needs positives, got 0 in 12 scans" in caplog.text
    assert "sensitivity" not in evaluation["metrics"]


def test_the_picture_says_phantoms(tmp_path, monkeypatch):
    titles = []

    def keep(risks, labels, weights, *, path, title):
        titles.append((title, list(risks)))

    monkeypatch.setattr("handlers.risk_evaluation.reliability_picture", keep)
    datalist = tmp_path / "datalist.json"
    for synthetic in (True, False):
        datalist.write_text(json.dumps({"name": "cohort", "synthetic": synthetic}))
        _run(COHORT, tmp_path, datalist=datalist)
    assert titles == [
        ("Predicted risk of 12 synthetic phantoms, 8 with cancer", ["uncalibrated"]),
        ("Predicted risk of 12 scans, 8 with cancer", ["uncalibrated"]),
    ]


def test_a_logit_that_is_not_finite_is_refused():
    outputs = {"logits": torch.tensor([[0.0, 1.0], [0.0, torch.inf]]), "scores": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"p2: the network's logits must be finite, got \[0"):
        scan_rows(outputs, {"patient_id": ["p1", "p2"]}, head=0, calibration=None)


@pytest.mark.parametrize("prevalence", [-0.1, 1.5, float("nan")])
def test_an_impossible_prevalence_is_refused(prevalence, tmp_path):
    with pytest.raises(ValueError, match=f"screening_prevalence must be .*, got {prevalence}"):
        RiskEvaluation(tmp_path, screening_prevalence=prevalence)
