from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from transforms import ScanError, YearlyRiskd, yearly_risk


def follow_up(
    risk: int, years_to_diagnosis: float | None, censoring_years: float | None
) -> dict[str, Any]:
    return {
        "image": MetaTensor(torch.zeros(1, 2, 2, 2), meta={"filename_or_obj": "scan.nii"}),
        "risk": risk,
        "years_to_diagnosis": years_to_diagnosis,
        "censoring_years": censoring_years,
    }


@pytest.mark.parametrize(
    ("risk", "diagnosis", "end", "labels", "known"),
    [
        (1, 2.4, 5.0, [0, 0, 1, 1], [1, 1, 1, 1]),
        (1, 2.0, 2.0, [0, 1, 1, 1], [1, 1, 1, 1]),  # in time to the day
        (1, 0.1, None, [1, 1, 1, 1], [1, 1, 1, 1]),
        (1, 7.0, 8.0, [0, 0, 0, 0], [1, 1, 1, 1]),  # later than the years that are asked for
        (0, None, 2.5, [0, 0, 0, 0], [1, 1, 0, 0]),
        (0, None, 2.0, [0, 0, 0, 0], [1, 1, 0, 0]),
        (0, None, 0.5, [0, 0, 0, 0], [0, 0, 0, 0]),
        (0, None, 9.0, [0, 0, 0, 0], [1, 1, 1, 1]),
    ],
)
def test_what_is_known_of_each_year(
    risk: int, diagnosis: float | None, end: float | None, labels: list[int], known: list[int]
) -> None:
    got = yearly_risk(
        risk=risk, years_to_diagnosis=diagnosis, censoring_years=end, years=len(labels)
    )
    assert [each.tolist() for each in got] == [labels, known]
    out = YearlyRiskd(years=len(labels))(follow_up(risk, diagnosis, end))
    assert out["risk"].tolist() == labels and out["risk_known"].tolist() == known
    assert out["event"].tolist() == [risk]
    assert out["event_years"].tolist() == pytest.approx([diagnosis if risk else end])
    assert all(out[key].dtype == torch.float32 for key in ("risk", "risk_known", "event_years"))


@pytest.mark.parametrize("risk", [0, 1])
def test_one_plain_label_needs_no_follow_up(risk: int) -> None:
    out = YearlyRiskd()({"risk": risk})
    assert out["risk"].tolist() == [risk] and out["risk_known"].tolist() == [1]
    assert "event" not in out and "event_years" not in out


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((1, None, 3.0), "years_to_diagnosis must be given where risk is 1, got none"),
        ((0, 2.0, 3.0), "years_to_diagnosis must be left out where risk is 0, got 2.0"),
        ((1, 3.0, 2.0), "censoring_years must not be below years_to_diagnosis, got 2.0 and 3.0"),
        ((0, None, 0.0), "censoring_years must be above 0, got 0.0"),
        ((0, None, -1.0), "censoring_years must be above 0, got -1.0"),
        ((1, 1.0, 0.0), "censoring_years must be above 0, got 0.0"),
        ((0, None, math.nan), "censoring_years must be above 0, got nan"),
        ((0, None, math.inf), "censoring_years must be above 0, got inf"),
        ((0, None, None), "censoring_years must be given where risk is 0, got none"),
        ((1, 0.0, 2.0), "years_to_diagnosis must be above 0, got 0.0"),
    ],
)
def test_contradictions_are_refused_by_the_scans_name(times: Any, message: str) -> None:
    with pytest.raises(ScanError) as caught:
        YearlyRiskd(years=3)(follow_up(*times))
    assert str(caught.value) == f"scan.nii: {message}"


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="years must be at least 1 or none, got 0"):
        YearlyRiskd(years=0)
    with pytest.raises(ValueError, match="keys must name one label"):
        YearlyRiskd(("risk", "other"))
