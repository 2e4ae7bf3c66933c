from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from metrics import (
    Froc,
    ScanPoints,
    average_precision,
    froc_intervals,
    froc_sensitivities,
    match_marks,
)
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN

Batch = tuple[dict[str, list[torch.Tensor]], dict[str, Any]]
_SPACING_MM = torch.tensor([0.7, 0.8, 2.5])


def _boxes(generator: torch.Generator, count: int, rank: int) -> torch.Tensor:
    centre = 60 * torch.rand(count, rank, generator=generator)
    half = 2 + 4 * torch.rand(count, rank, generator=generator)
    return torch.cat((centre - half, centre + half), dim=1)


def _batch(
    marks: list[torch.Tensor], scores: list[torch.Tensor], nodules: list[torch.Tensor]
) -> Batch:
    rank = nodules[0].shape[1] // 2
    table = torch.zeros(len(nodules), 6, 2 * rank)
    for row, own in zip(table, nodules, strict=True):
        row[: len(own)] = own
    targets = {
        "boxes_voxel": table,
        "box_count": torch.tensor([len(own) for own in nodules]),
        "patient_id": [f"p{index}" for index in range(len(nodules))],
        "spacing_mm": _SPACING_MM[:rank].expand(len(nodules), rank),
    }
    return {"boxes": marks, "scores": scores}, targets


def _random_batches(scans: int, rank: int = 3) -> list[Batch]:
    """Three scans a batch; some without a nodule, some without a mark."""
    generator = torch.Generator().manual_seed(scans)
    nodules = [_boxes(generator, scan % 4, rank) for scan in range(scans)]
    marks, scores = [], []
    for scan, own in enumerate(nodules):
        near = own[::2] + 1.5 * torch.randn(len(own[::2]), 1, generator=generator)
        far = _boxes(generator, 6 * (scan % 5 > 0), rank)
        marks.append(torch.cat((near, far)))
        scores.append(torch.rand(len(marks[-1]), generator=generator))
    parts = [slice(start, start + 3) for start in range(0, scans, 3)]
    return [_batch(marks[part], scores[part], nodules[part]) for part in parts]


def _run(batches: list[Batch], metric: Froc | None = None, name: str = "cpm") -> dict[str, float]:
    engine = Engine(lambda _, batch: batch)
    (metric or Froc()).attach(engine, name)
    engine.run(batches)
    return engine.state.metrics


def _expected(batches: list[Batch]) -> dict[str, float]:
    """The pure functions, on lists gathered row by row."""
    marks, scores, nodules = [], [], []
    for outputs, targets in batches:
        spacing = targets["spacing_mm"].repeat(1, 2).double()
        for scan, count in enumerate(targets["box_count"].tolist()):
            marks.append(outputs["boxes"][scan].double() * spacing[scan])
            scores.append(outputs["scores"][scan].double())
            nodules.append(targets["boxes_voxel"][scan, :count].double() * spacing[scan])

    def points(boxes: list[torch.Tensor], values: list[torch.Tensor] | None) -> ScanPoints:
        rows = [
            (
                scan,
                [*((box[: len(box) // 2] + box[len(box) // 2 :]) / 2).tolist(), 0.0][:3],
                float((box[len(box) // 2 :] - box[: len(box) // 2]).mean())
                if values is None
                else float(values[scan][index]),
            )
            for scan, own in enumerate(boxes)
            for index, box in enumerate(own)
        ]
        columns = zip(*rows, strict=True)
        return ScanPoints(*map(np.array, columns))

    none = ScanPoints(np.zeros(0, int), np.zeros((0, 3)), np.zeros(0))
    matched = match_marks(points(marks, scores), points(nodules, None), none, len(nodules))
    names = [f"sensitivity_at_{rate:g}" for rate in FALSE_POSITIVES_PER_SCAN]
    sensitivities, intervals = froc_sensitivities(matched), froc_intervals(matched)
    values = {"cpm": sensitivities.mean(), **dict(zip(names, sensitivities, strict=True))}
    ends = (intervals.cpm, *intervals.sensitivities)
    for name, (low, high, _) in zip(("cpm", *names), ends, strict=True):
        values |= {f"{name}_low": low, f"{name}_high": high}
    precisions = average_precision(marks, scores, nodules)
    names = ["average_precision_10", "average_precision_10_50"]
    return values | dict(zip(names, precisions, strict=True))


@pytest.mark.parametrize("rank", [2, 3])
def test_an_epoch_has_the_values_of_the_functions_on_all_its_scans(rank: int) -> None:
    batches = _random_batches(14, rank)
    values = _run(batches)
    assert values == pytest.approx(_expected(batches), abs=1e-12)
    assert 0 < values["cpm_low"] < values["cpm"] < values["cpm_high"] < 1
    assert values["sensitivity_at_0.125"] < values["sensitivity_at_8"]
    assert 0 < values["average_precision_10_50"] < values["average_precision_10"] < 1


def test_the_hit_is_judged_in_mm_by_the_mean_side() -> None:
    # 7 x 8 x 15 mm, so a radius of 5 mm.
    nodule = torch.tensor([[10.0, 10.0, 10.0, 20.0, 20.0, 16.0]])
    for shift_mm, found in ((4.9, 1.0), (5.1, 0.0)):
        for axis in range(3):
            shift = torch.zeros(6)
            shift[[axis, axis + 3]] = shift_mm / _SPACING_MM[axis]
            values = _run([_batch([nodule + shift], [torch.tensor([0.7])], [nodule])])
            assert values["cpm"] == found


def test_a_few_scans_have_values_but_no_interval() -> None:
    values = _run(_random_batches(9))
    names = {f"sensitivity_at_{rate}" for rate in ("0.125", "0.25", "0.5", "1", "2", "4", "8")}
    assert set(values) == {"cpm", *names, "average_precision_10", "average_precision_10_50"}


def test_no_mark_finds_nothing() -> None:
    nodules = [torch.tensor([[1.0, 1, 1, 5, 5, 5]]), torch.zeros(0, 6)]
    values = _run([_batch([torch.zeros(0, 6)] * 2, [torch.zeros(0)] * 2, nodules)])
    assert len(values) == 10 and set(values.values()) == {0.0}


def test_without_a_nodule_the_value_is_minus_one_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = torch.tensor([[1.0, 1, 1, 5, 5, 5]])
    batch = _batch([box, box], [torch.tensor([0.5])] * 2, [torch.zeros(0, 6)] * 2)
    metric = Froc()
    with caplog.at_level(logging.WARNING, logger="metrics.froc_metric"):
        for _ in range(2):
            assert _run([batch], metric) == {"cpm": -1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "FROC needs a nodule, got none in 2 scans: CPM is reported as -1"
    ]


def test_nodules_that_a_crop_lost_are_missed() -> None:
    nodules = torch.tensor([[10.0, 10, 10, 20, 20, 16], [30.0, 30, 30, 40, 40, 36]])
    scores = torch.tensor([0.9, 0.8])
    outputs, targets = _batch([nodules], [scores], [nodules])
    assert _run([(outputs, targets)])["sensitivity_at_1"] == 1
    values = _run([(outputs, targets | {"lost_boxes": torch.tensor([2])})])
    assert values["cpm"] == values["sensitivity_at_0.125"] == 0.5
    assert values["average_precision_10"] == pytest.approx(0.5, abs=0.01)
    outputs, targets = _batch([nodules], [scores], [nodules[:0]])
    assert _run([(outputs, targets | {"lost_boxes": torch.tensor([1])})])["cpm"] == 0


def test_values_stand_under_the_attached_name_and_replace_those_of_an_earlier_epoch() -> None:
    metric, engine = Froc(), Engine(lambda _, batch: batch)
    metric.attach(engine, "val_cpm")
    engine.run(_random_batches(14))
    assert {"val_cpm", "val_cpm_low", "val_cpm_high"} < set(engine.state.metrics)
    assert "cpm" not in engine.state.metrics
    metric.reset()
    metric.completed(engine, "val_cpm")
    assert engine.state.metrics == {"val_cpm": -1.0}
