"""The tables of the demo's page, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bundles.comparison_table import NOT_MEASURED, difference_cell, value_cell

CALIBRATION_ERRORS = {"brier": "Brier score", "ece": "expected calibration error (ECE)"}
DETECTION_SCORES = {
    "cpm": "sensitivity, mean of 1/8 to 8 false marks a scan (CPM)",
    "sensitivity_at_0.125": "sensitivity at 1/8 false mark a scan",
    "sensitivity_at_1": "sensitivity at 1 false mark a scan",
    "sensitivity_at_8": "sensitivity at 8 false marks a scan",
    "average_precision_10": "average precision at IoU 0.1",
}
# Title and decimals.
SEGMENTATION_VALUES = {
    "dice": ("Dice of a nodule, missed ones too", 3),
    "dice_found": ("Dice of a found nodule", 3),
    "sensitivity": ("share of the nodules found", 3),
    "false_components_per_scan": ("false components in a scan", 2),
    "surface_distance_mm": ("mean surface distance of a found nodule in mm", 2),
    "volume_error_percent": ("volume error of a found nodule, median of its size, in per cent", 1),
    "volume_bias_percent": ("volume error of a found nodule, median with its sign, in per cent", 1),
}
OUTCOMES = ("recalled", "found", "missed", "false_alarms")


def difference_table(
    measures: Mapping[str, Mapping[str, Any]], reference: str, titles: Mapping[str, str]
) -> str:
    """A row for each measure: every arm's value, and each paired difference to ``reference``.

    Args:
        measures: of :func:`bundles.comparison_measures.measured`.
        reference: the arm that the others are compared with.
        titles: arm to what the table calls it.
    """
    others = [arm for arm in titles if arm != reference]
    differences = [
        "difference" if len(others) == 1 else f"difference, {titles[arm]}" for arm in others
    ]
    rows = [
        [
            f"{measure['title']} ({measure['scans']} scans)",
            *(value_cell(measure, arm) for arm in titles),
            *(difference_cell(measure, arm) for arm in others),
        ]
        for measure in measures.values()
    ]
    return _table(["", *titles.values(), *differences], rows)


def calibration_table(metrics: Mapping[str, float | None], *, calibrated: bool) -> str:
    """Brier score and ECE of the risk as it comes and, where there is one, after calibration.

    Args:
        metrics: of an ``evaluation.json``.
        calibrated: whether the evaluation had a calibration.
    """
    forecasts = {"before calibration": ""} | ({"after": "_calibrated"} if calibrated else {})
    rows = [
        [title, *(_metric(metrics, name + suffix) for suffix in forecasts.values())]
        for name, title in CALIBRATION_ERRORS.items()
    ]
    return _table(["", *forecasts], rows)


def recall_table(screening: Mapping[str, Any]) -> str:
    """Expected outcomes of a screening round, for each prevalence that was worked out.

    Args:
        screening: of an ``evaluation.json``.
    """
    screens = screening["screens"]
    rows = []
    for name in ("cohort", "reweighted"):
        counts = screening[name]
        if counts is not None:
            cancers = f"{screens * counts['prevalence']:.0f} with cancer"
            place = "as among these scans" if name == "cohort" else "re-weighted"
            outcomes = (f"{counts[outcome]:.0f}" for outcome in OUTCOMES)
            rows.append([f"{cancers}, {place}", *outcomes])
    head = [f"of {screens:,} screens", *(name.replace("_", " ") for name in OUTCOMES)]
    return _table(head, rows)


def detection_table(metrics: Mapping[str, float | None]) -> str:
    """A detector's FROC in a few numbers.

    Args:
        metrics: of an ``evaluation.json``.
    """
    rows = [[title, _metric(metrics, name)] for name, title in DETECTION_SCORES.items()]
    return _table(["", "held-out phantoms"], rows)


def size_table(by_size: Mapping[str, Mapping[str, Any]]) -> str:
    """The nodules of each size, and the share of them that a detector found.

    Args:
        by_size: of an ``evaluation.json``.
    """
    shown = {name: DETECTION_SCORES[name] for name in ("cpm", "sensitivity_at_1")}
    rows = [
        [name.replace("_", " "), str(values["nodules"]), *(_metric(values, key) for key in shown)]
        for name, values in by_size.items()
        if values["nodules"]
    ]
    return _table(["size", "nodules", *shown.values()], rows)


def segmentation_table(metrics: Mapping[str, float | None]) -> str:
    """A segmenter's masks in a few numbers.

    Args:
        metrics: of an ``evaluation.json``.
    """
    rows = [
        [title, _metric(metrics, name, decimals)]
        for name, (title, decimals) in SEGMENTATION_VALUES.items()
    ]
    return _table(["", "held-out phantoms"], rows)


def nodule_size_table(by_size: Mapping[str, Mapping[str, Any]]) -> str:
    """The nodules of each size, how many were found, and how well they were segmented.

    Args:
        by_size: of an ``evaluation.json``.
    """
    names = ("dice", "sensitivity", "surface_distance_mm", "volume_error_percent")
    shown = {name: SEGMENTATION_VALUES[name] for name in names}
    rows = [
        [
            name.replace("_", " "),
            str(values["nodules"]),
            *(_metric(values, key, decimals) for key, (_, decimals) in shown.items()),
        ]
        for name, values in by_size.items()
        if values["nodules"]
    ]
    return _table(["size", "nodules", *(title for title, _ in shown.values())], rows)


def _metric(metrics: Mapping[str, float | None], name: str, decimals: int = 3) -> str:
    value, low, high = (metrics.get(name + end) for end in ("", "_low", "_high"))
    if value is None:
        return NOT_MEASURED
    interval = "" if low is None or high is None else f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return f"{value:.{decimals}f}{interval}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
