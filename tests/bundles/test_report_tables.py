from __future__ import annotations

from typing import Any

from bundles.comparison_table import NOT_MEASURED
from bundles.report_tables import (
    calibration_table,
    detection_table,
    difference_table,
    nodule_size_table,
    recall_table,
    segmentation_table,
    size_table,
)


def _measure(**arms: dict[str, Any]) -> dict[str, Any]:
    return {"title": "A < B", "decimals": 2, "scans": 9, "arms": arms}


def _cells(table: str) -> list[list[str]]:
    rows = table.removeprefix("<table>").removesuffix("</table>").split("</tr>")[:-1]
    return [
        [cell.split(">", 1)[1] for cell in row.replace("</th>", "</td>").split("</td>")[:-1]]
        for row in (row.removeprefix("<tr>") for row in rows)
    ]


def test_a_measure_has_each_value_and_the_paired_difference() -> None:
    plain = {"value": 0.1, "low": 0.05, "high": 0.15, "seed_sd": None}
    difference = {"difference": 0.3, "difference_low": 0.2, "difference_high": 0.4}
    taught = {"value": 0.4, "low": 0.3, "high": 0.5, "seed_sd": None, **difference}
    table = difference_table(
        {"mass": _measure(plain=plain, taught=taught)}, "plain", {"plain": "off", "taught": "on"}
    )
    assert _cells(table) == [
        ["", "off", "on", "difference"],
        ["A &lt; B (9 scans)", "0.10 [0.05, 0.15]", "0.40 [0.30, 0.50]", "+0.30 [+0.20, +0.40]"],
    ]


def test_a_measure_without_a_value_says_so() -> None:
    none = dict.fromkeys(["value", "low", "high", "seed_sd", "difference"])
    table = difference_table({"mass": _measure(a=none, b=none)}, "a", {"a": "off", "b": "on"})
    assert _cells(table)[1][1:] == ["not measured"] * 3


def test_errors_before_and_after_calibration() -> None:
    metrics = {"brier": 0.25, "ece": 0.2, "ece_low": 0.1, "ece_high": 0.3}
    calibrated = {**metrics, "brier_calibrated": 0.2, "ece_calibrated": 0.05}
    assert _cells(calibration_table(calibrated, calibrated=True)) == [
        ["", "before calibration", "after"],
        ["Brier score", "0.250", "0.200"],
        ["expected calibration error (ECE)", "0.200 [0.100, 0.300]", "0.050"],
    ]
    assert _cells(calibration_table(metrics, calibrated=False))[1] == ["Brier score", "0.250"]
    assert _cells(calibration_table({}, calibrated=False))[2][1] == "not measured"


def test_outcomes_of_a_screening() -> None:
    cohort = {"prevalence": 0.5, "recalled": 600, "found": 450, "missed": 50, "false_alarms": 150}
    rare = {"prevalence": 0.01, "recalled": 306, "found": 9, "missed": 1, "false_alarms": 297}
    screening = {"screens": 1000, "cohort": cohort, "reweighted": rare}
    head, *rows = _cells(recall_table(screening))
    assert head == ["of 1,000 screens", "recalled", "found", "missed", "false alarms"]
    assert rows == [
        ["500 with cancer, as among these scans", "600", "450", "50", "150"],
        ["10 with cancer, re-weighted", "306", "9", "1", "297"],
    ]
    assert len(_cells(recall_table({**screening, "reweighted": None}))) == 2


def test_a_froc_in_a_few_numbers() -> None:
    metrics = {"cpm": 0.5, "cpm_low": 0.4, "cpm_high": 0.6, "sensitivity_at_1": 0.75}
    table = detection_table(metrics)
    assert "<td>0.500 [0.400, 0.600]</td>" in table and "<td>0.750</td>" in table
    assert table.count(f"<td>{NOT_MEASURED}</td>") == 3


def test_sizes_without_a_nodule_are_left_out() -> None:
    found = {"cpm": 0.25, "sensitivity_at_1": 0.5}
    table = size_table({"under_6_mm": {"nodules": 0}, "15_mm_and_more": {"nodules": 4, **found}})
    assert "under 6 mm" not in table
    assert "<td>15 mm and more</td><td>4</td><td>0.250</td><td>0.500</td>" in table


def test_masks_in_a_few_numbers() -> None:
    error = {"volume_error_percent": 12.34, "volume_error_percent_low": 9.0}
    error["volume_error_percent_high"] = 20.0
    table = segmentation_table({"dice": 0.5, "surface_distance_mm": 1.234, **error})
    cells = dict(_cells(table)[1:])
    assert cells["Dice of a nodule, missed ones too"] == "0.500"
    assert cells["mean surface distance of a found nodule in mm"] == "1.23"
    assert "12.3 [9.0, 20.0]" in cells.values()
    assert table.count(f"<td>{NOT_MEASURED}</td>") == 4


def test_masks_by_size_leave_out_sizes_without_a_nodule() -> None:
    values = {"dice": 0.25, "sensitivity": 0.5, "surface_distance_mm": None}
    table = nodule_size_table({"under_6_mm": {"nodules": 0}, "6_to_8_mm": {"nodules": 4, **values}})
    _, row = _cells(table)
    assert row == ["6 to 8 mm", "4", "0.250", "0.500", NOT_MEASURED, NOT_MEASURED]
