"""A segmenter's nodules by size beside the agreement of LIDC-IDRI's readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metrics.bootstrap_interval import weighted_mean
from metrics.epoch_values import value_with_interval
from metrics.nodule_size import SIZE_CLASSES

_CONVENTIONS = ("outline outside", "outline inside")
_READER_COLUMNS = [
    name for convention in _CONVENTIONS for name in (f"readers, {convention}: Dice, 95 %", "spread")
]
_HEADER = ("size", "nodules", "found", "Dice, 95 %", "volume error", *_READER_COLUMNS)


def beside_readers(nodules_csv: str | Path, record: str | Path) -> list[str]:
    """Lines of a table: Dice and volume error of a model's nodules, and the readers', by size.

    Args:
        nodules_csv: of an evaluation (:class:`handlers.SegmentationEvaluation`).
        record: the JSON that ``python -m benchmarks.reader_agreement`` has written.

    Raises:
        ValueError: a file is missing or not what it should be.
    """
    nodules, (readers, source) = _nodules(Path(nodules_csv)), _readers(Path(record))
    rows = [_HEADER]
    for size in ("all sizes", *SIZE_CLASSES):
        own = [row for row in nodules if size in ("all sizes", row["size_class"])]
        bars = [
            cell
            for convention in _CONVENTIONS
            for cell in _reader_cells(readers, f"{convention}, {size}")
        ]
        rows.append((size.replace("_", " "), *_model_cells(own), *bars))
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [
        *table,
        f"Model: {nodules_csv}, {_cohort(Path(nodules_csv))}. Dice of all its nodules, missed ones "
        "included; volume error: median size of the error of the found ones.",
        f"Readers: {source}. Dice: mean over pairs of readers; spread: median of the standard "
        "deviation of four readers' volumes over their mean.",
        "The model is compared with one reference, the readers with each other: equal Dice does "
        "not mean equal skill, and an error is not a spread.",
    ]


def _nodules(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"{path} must be the nodules.csv of an evaluation, got no such file")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        needed = {"patient_id", "size_class", "found", "dice", "volume_error_percent"}
        missing = sorted(needed - set(rows.fieldnames or ()))
        if missing:
            raise ValueError(f"{path} must have the column {missing[0]}, got {rows.fieldnames}")
        return list(rows)


def _readers(path: Path) -> tuple[dict[str, float], str]:
    """Each quantity of the record, and what the record is."""
    if not path.is_file():
        raise ValueError(
            f"{path} must be written first by `python -m benchmarks.reader_agreement`, "
            "got no such file"
        )
    report = json.loads(path.read_text(encoding="utf-8"))
    values = {row["what"]: float(row["ours"]) for row in report["rows"]}
    return values, f"{path.name} of {report['date'][:10]} by `{report['command']}`"


def _cohort(path: Path) -> str:
    """What the evaluation was of, which stands beside its table."""
    about = path.with_name("evaluation.json")
    content: Mapping[str, Any] = json.loads(about.read_text()) if about.is_file() else {}
    name = content.get("datalist") or "a datalist without a name"
    return f"{name} (synthetic phantoms)" if content.get("synthetic") else str(name)


def _model_cells(nodules: Sequence[Mapping[str, str]]) -> tuple[str, str, str, str]:
    found = [row for row in nodules if row["found"] == "yes"]
    if not nodules:
        return "0", "0", "", ""
    dice = np.array([float(row["dice"]) for row in nodules])
    patients = [row["patient_id"] for row in nodules]
    values = value_with_interval("dice", partial(weighted_mean, dice), patients)
    errors = [abs(float(row["volume_error_percent"])) for row in found]
    error = f"{np.median(errors):.1f} %" if errors else ""
    ends = (values.get("dice_low"), values.get("dice_high"))
    return str(len(nodules)), str(len(found)), _with_ends(values["dice"], *ends), error


def _reader_cells(readers: Mapping[str, float], part: str) -> tuple[str, str]:
    names = [f"{part}: pairwise Dice, {end}" for end in ("mean", "low", "high")]
    spread = f"{part}: spread of volume, median"
    for name in (*names, spread):
        if name not in readers:
            raise ValueError(f"the readers' record must hold {name!r}, got others")
    return _with_ends(*(readers[name] for name in names)), f"{readers[spread]:.1f} %"


def _with_ends(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")
