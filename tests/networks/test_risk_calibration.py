from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from networks import RiskCalibration, read_calibration

CALIBRATION = RiskCalibration(
    slope=0.5,
    intercept=-1.0,
    threshold=0.25,
    target_sensitivity=0.9,
    split="validation",
    datalist="phantoms",
    scans=12,
    positives=6,
    checkpoint_sha256="ab",
    patients_sha256=(hashlib.sha256(b"p1").hexdigest(),),
)


def test_risk_by_hand():
    risk = CALIBRATION.risk(torch.tensor([[0.0, 2.0], [-4.0, 6.0]], dtype=torch.float16))
    expected = [[1 / (1 + math.e), 0.5], [1 / (1 + math.e**3), 1 / (1 + math.e**-2)]]
    assert risk.dtype == torch.float64
    torch.testing.assert_close(risk, torch.tensor(expected, dtype=torch.float64))


def test_rising_logits_give_rising_risks():
    logits = torch.randn(50, 6).cumsum(dim=1).cummax(dim=1).values
    assert (CALIBRATION.risk(logits).diff(dim=1) >= 0).all()


def test_patients_are_known_by_their_hash():
    assert CALIBRATION.fitted_on("p1")
    assert not CALIBRATION.fitted_on("p2")
    assert "patients_sha256" not in CALIBRATION.description()
    assert CALIBRATION.description()["slope"] == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slope", 0.0),
        ("slope", -1.0),
        ("slope", math.nan),
        ("slope", math.inf),
        ("intercept", math.nan),
        ("threshold", 1.5),
        ("threshold", math.nan),
    ],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        replace(CALIBRATION, **{name: value})


def test_a_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(asdict(CALIBRATION)))
    assert read_calibration(path) == CALIBRATION


def test_no_file_is_no_calibration(tmp_path):
    assert read_calibration(tmp_path / "calibration.json") is None
    assert read_calibration(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"slope": 1}',
        json.dumps(asdict(CALIBRATION) | {"slope": -1}),
        json.dumps(asdict(CALIBRATION) | {"slope": "1"}),
        json.dumps(asdict(CALIBRATION) | {"patients_sha256": None}),
    ],
)
def test_an_unreadable_calibration_is_named(text, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"calibration\.json: must be a readable calibration, got"):
        read_calibration(path)
