"""The yearly overlay with its calibration, from training to predictions."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bundles.__main__ import main
from cohorts import load_datalist
from metrics.platt_scaling import PlattScaling

BUNDLE = "lung_ct_cancer_risk"
YEARS = 6
SLOPE, INTERCEPT = 2.0, -0.5


@pytest.fixture(scope="module")
def run_dir(
    tmp_path_factory: pytest.TempPathFactory, datalist: Path, small_settings: list[str]
) -> Path:
    """A folder with weights, calibration, evaluation and predictions; each workflow runs once."""
    folder = tmp_path_factory.mktemp("yearly") / "run"
    settings = [*small_settings, "--set", "max_epochs=1", "--set", f"run_dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder.parent}/mlflow.db")
        # Two validation scans allow no fit of their own.
        scaling = PlattScaling(SLOPE, INTERCEPT)
        patch.setattr("handlers.risk_calibrator.platt_scaling", lambda *_: scaling)
        overlay = ["--datalist", str(datalist), "--overlay", "yearly"]
        assert main(["train", BUNDLE, *overlay, *settings]) == 0
    assert main([*_evaluate(folder, datalist)]) == 0
    scans = [item["image"] for item in load_datalist(datalist, "testing")]
    predict = ["predict", BUNDLE, "--run", str(folder), "--output", str(folder / "predictions")]
    assert main([*predict, "--scans", *scans]) == 0
    return folder


def test_the_calibration_is_of_these_weights_and_validation_patients(
    run_dir: Path, datalist: Path
) -> None:
    calibration = _json(run_dir / "calibration.json")
    validation = [item["patient_id"] for item in load_datalist(datalist, "validation")]
    assert (calibration["slope"], calibration["intercept"]) == (SLOPE, INTERCEPT)
    assert (calibration["split"], calibration["target_sensitivity"]) == ("validation", 0.9)
    assert calibration["patients_sha256"] == sorted(_sha256(name.encode()) for name in validation)
    assert calibration["checkpoint_sha256"] == _sha256((run_dir / "model.pt").read_bytes())


def test_the_evaluation_applies_the_calibration(run_dir: Path) -> None:
    report = _json(run_dir / "evaluation" / "evaluation.json")
    assert report["calibrated"] is True
    rows = _rows(run_dir / "evaluation" / "per_scan.csv")
    assert len(rows) == 2
    for row in rows:
        years = [float(row[f"risk_year_{year}"]) for year in range(1, YEARS + 1)]
        assert years == sorted(years)
        assert float(row["calibrated_risk"]) == years[-1]
        assert years[-1] == pytest.approx(_calibrated(float(row["predicted_risk"])), abs=1e-9)
    # Diagnosed after 1.3 years, the other followed for 5: what later years hold is not known.
    assert report["metrics"]["c_index"] in (0, 0.5, 1)
    assert "auc_year_2" in report["metrics"]
    assert {"auc_year_1", "auc_year_6"}.isdisjoint(report["metrics"])
    # Of the only scan of known outcome, a cancer, nothing can be said that takes a prevalence.
    assert (report["scans"], report["known_scans"], report["positives"]) == (2, 1, 1)
    assert report["metrics"]["sensitivity"] in (0, 1)
    assert {"brier", "ece", "brier_calibrated", "specificity"}.isdisjoint(report["metrics"])
    assert report["screening"] is None
    assert not (run_dir / "evaluation" / "reliability.png").exists()


def test_predictions_rise_over_the_years_and_agree_with_the_evaluation(run_dir: Path) -> None:
    report = _json(run_dir / "predictions" / "predictions.json")
    assert report["calibrated"] is True
    rows = _rows(run_dir / "evaluation" / "per_scan.csv")
    for scan, row in zip(report["scans"], rows, strict=True):
        assert len(scan["yearly_risk"]) == YEARS
        assert scan["yearly_risk"] == sorted(scan["yearly_risk"])
        assert scan["risk"] == scan["yearly_risk"][-1]
        assert scan["risk"] == pytest.approx(_calibrated(scan["raw_risk"]), abs=1e-9)
        assert scan["recall"] == (scan["risk"] >= report["calibration"]["threshold"])
        assert scan["risk"] == pytest.approx(float(row["calibrated_risk"]), abs=1e-6)


def test_patients_of_the_calibration_are_not_judged_with_it(
    run_dir: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = _evaluate(run_dir, datalist, "split=validation", f"output_dir={tmp_path}")
    assert main(validation) == 1
    (sentence,) = _errors(capsys)
    patient = load_datalist(datalist, "validation")[0]["patient_id"]
    assert "a calibration must be fitted on other patients than it is judged on" in sentence
    assert patient in sentence
    assert not list(tmp_path.iterdir())
    assert main([*validation, "--set", "calibration=null"]) == 0
    report = _json(tmp_path / "evaluation.json")
    assert (report["calibrated"], report["screening"]) == (False, None)


def test_a_calibration_of_other_weights_is_refused(
    run_dir: Path, datalist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**_json(run_dir / "calibration.json"), "checkpoint_sha256": "0" * 64}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    output = f"output_dir={tmp_path / 'evaluation'}"
    assert main(_evaluate(run_dir, datalist, output, f"calibration={other}")) == 1
    (sentence,) = _errors(capsys)
    assert "other.json: a calibration must be of the weights it is applied to" in sentence


def _evaluate(run_dir: Path, datalist: Path, *settings: str) -> list[str]:
    places = ["--run", str(run_dir), "--datalist", str(datalist)]
    pairs = [part for setting in settings for part in ("--set", setting)]
    return ["evaluate", BUNDLE, *places, *pairs]


def _calibrated(risk: float) -> float:
    logit = math.log(risk / (1 - risk))
    return 1 / (1 + math.exp(-(SLOPE * logit + INTERCEPT)))


def _errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("error:")]


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
