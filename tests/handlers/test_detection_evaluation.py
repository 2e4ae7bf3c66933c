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
from handlers import DetectionEvaluation, PrepareTargets
from handlers.luna16_tables import series_names
from metrics import SIZE_CLASSES, Froc
from metrics.froc import froc_report
from metrics.froc import main as froc_command
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN
from transforms import BoxesToVoxelsd, boxes_to_voxels

_TARGETS = ["boxes_voxel", "box_count", "lost_boxes", "spacing_mm", "patient_id"]
# 40 mm cubed, from (9.75, 19.75, -31) RAS on.
_AFFINE = np.array([[0.5, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 2, -30], [0, 0, 0, 1]])
_SHAPE = (80, 80, 20)


def _cube(x: float, y: float, z: float, side: float) -> list[float]:
    return [x, y, z, side, side, side]


def _item(patient: str, boxes: list[list[float]], marks: list[tuple[list[float], float]], **rest):
    return {"image": patient, "patient_id": patient, "boxes": boxes, "marks": marks} | rest


# Of the nodules A and B, A is found twice; of C and D, D is outside of the image.
ITEMS = [
    _item(
        "p1",
        [_cube(20, 30, -20, 5), _cube(35, 40, -5, 12)],
        [
            (_cube(20, 30, -18.5, 5), 0.95),
            (_cube(20, 30, -20, 5), 0.9),
            (_cube(35, 46.1, -5, 12), 0.8),
        ],
    ),
    _item(
        "p2",
        [_cube(30, 30, -10, 6), _cube(0, 30, -10, 8)],
        [(_cube(15, 50, -10, 6), 0.6), (_cube(30, 30, -10, 6), 0.5), (_cube(45, 50, -10, 6), 0.5)],
    ),
    _item("p3", [], []),
]
BROKEN = _item("broken", [], [])


class _GivenMarks(Inferer):
    """The marks of the item whose number is in the image."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def __call__(self, inputs, network, *args, **kwargs):
        given = [self.items[int(image.max())]["marks"] for image in inputs]
        columns = 2 * (inputs.ndim - 2)
        return {
            "boxes": [
                boxes_to_voxels(
                    np.reshape([box for box, _ in marks], (-1, columns)), image.affine
                ).float()
                for marks, image in zip(given, inputs, strict=True)
            ],
            "scores": [torch.tensor([score for _, score in marks]) for marks in given],
        }


def _run(items, output_dir: Path, *, listed: bool = True, **settings) -> DetectionEvaluation:
    def sample(item):
        if item["patient_id"] == "broken":
            raise ValueError("broken: the file must exist")
        number = float(next(i for i, other in enumerate(items) if other["image"] == item["image"]))
        shape = item.get("shape", _SHAPE)
        affine = torch.from_numpy(item.get("affine", _AFFINE)).double()
        meta = {"filename_or_obj": item["image"]}
        image = MetaTensor(torch.full((1, *shape), number), affine, meta)
        placed = BoxesToVoxelsd(max_boxes=6)({"image": image, "boxes": item["boxes"]})
        return {"patient_id": item["patient_id"], **placed}

    dataset = ReadableScans(items, sample)
    writer = DetectionEvaluation(output_dir, dataset if listed else None, **settings)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0),
        network=nn.Identity(),
        inferer=_GivenMarks(items),
        prepare_batch=PrepareTargets(_TARGETS, with_attention=False),
        key_val_metric={"cpm": Froc(output_transform=from_engine(["pred", "label"]))},
        val_handlers=[writer],
        decollate=False,
    ).run()
    return writer


def _evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as stream:
        return list(csv.DictReader(stream))


def _command_lines(folder: Path) -> list[str]:
    names = ("annotations", "excluded", "seriesuids", "marks")
    return froc_report(*(folder / f"{name}.csv" for name in names))


def _sensitivities(*values: float) -> dict[str, Any]:
    rates = [f"sensitivity_at_{rate:g}" for rate in FALSE_POSITIVES_PER_SCAN]
    return {"cpm": pytest.approx(sum(values) / 7), **dict(zip(rates, values, strict=True))}


def test_the_cohort_by_hand(tmp_path):
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"name": "phantoms", "synthetic": True}))
    _run(ITEMS, tmp_path, datalist=datalist).finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["intended_use"] == "Research use only; not for clinical decisions."
    assert [evaluation[key] for key in ("datalist", "synthetic")] == ["phantoms", True]
    assert [evaluation[key] for key in ("scans", "nodules", "lost_boxes", "marks")] == [3, 4, 1, 6]
    assert evaluation["failed"] == []
    assert evaluation["counts"] == {"true": 2, "false": 3, "double": 1, "missed": 2}
    whole = _sensitivities(0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5)
    metrics = evaluation["metrics"]
    assert {name: metrics[name] for name in whole} == whole
    assert evaluation["by_size"] == {
        "under_6_mm": {"nodules": 1, **_sensitivities(*[1.0] * 7)},
        "6_to_8_mm": {"nodules": 1, **_sensitivities(0, 0, 0, 1, 1, 1, 1)},
        "8_to_10_mm": {"nodules": 1, **_sensitivities(*[0.0] * 7)},
        "10_to_15_mm": {"nodules": 1, **_sensitivities(*[0.0] * 7)},
        "15_mm_and_more": {"nodules": 0, **dict.fromkeys(whole)},
    }
    # C and D count as two in a scan although a crop lost D.
    assert evaluation["by_nodules_in_scan"] == {
        "one": {"nodules": 0, **dict.fromkeys(whole)},
        "several": {"nodules": 4, **whole},
    }
    points = evaluation["operating_points"]
    assert [point["rate"] for point in points] == list(FALSE_POSITIVES_PER_SCAN)
    assert [point["threshold"] for point in points] == pytest.approx([0.95] * 2 + [0.8] + [0.5] * 4)
    assert [point["false_marks_per_scan"] for point in points] == [0, 0, 1 / 3, 1, 1, 1, 1]
    assert [point["found"] for point in points] == [1, 1, 1, 2, 2, 2, 2]
    assert (tmp_path / "froc.png").read_bytes().startswith(b"\x89PNG")


def test_each_scan_by_hand(tmp_path):
    _run(ITEMS, tmp_path)
    rows = _rows(tmp_path, "per_scan")
    assert [row["patient_id"] for row in rows] == ["p1", "p2", "p3"]
    for column, values in {
        "nodules": [2, 2, 0],
        "lost_boxes": [0, 1, 0],
        "marks": [3, 3, 0],
        "found_at_1": [1, 1, 0],
        "false_at_1": [1, 2, 0],
        "mean_found": [1, 4 / 7, 0],
        "found": [1, 1, 0],
        "found_iou": [3.5 / 6.5, 1, 0],
        "nodules_under_6_mm": [1, 0, 0],
        "mean_found_under_6_mm": [1, 0, 0],
        "nodules_6_to_8_mm": [0, 1, 0],
        "mean_found_6_to_8_mm": [0, 4 / 7, 0],
        "nodules_8_to_10_mm": [0, 1, 0],
        "mean_found_8_to_10_mm": [0, 0, 0],
        "nodules_15_mm_and_more": [0, 0, 0],
    }.items():
        assert [float(row[column]) for row in rows] == pytest.approx(values, abs=1e-6), column
    assert [row["several"] for row in rows] == ["yes", "yes", "no"]


def test_each_nodule_by_hand(tmp_path):
    _run(ITEMS, tmp_path)
    rows = _rows(tmp_path, "nodules")
    # LPS: x and y are those of RAS with the other sign.
    places = [[-20, -30, -20], [-35, -40, -5], [-30, -30, -10], [0, -30, -10]]
    for row, place in zip(rows, places, strict=True):
        assert [float(row[f"coord{axis}"]) for axis in "XYZ"] == pytest.approx(place, abs=1e-4)
    assert [float(row["diameter_mm"]) for row in rows] == pytest.approx([5, 12, 6, 8], abs=1e-4)
    assert [row["patient_id"] for row in rows] == ["p1", "p1", "p2", "p2"]
    sizes = ["under_6_mm", "10_to_15_mm", "6_to_8_mm", "8_to_10_mm"]
    assert [row["size_class"] for row in rows] == sizes
    assert [row["lost"] for row in rows] == ["no", "no", "no", "yes"]
    assert {row["nodules_in_scan"] for row in rows} == {"2"}
    for column, of_a, of_c in (
        ("score", 0.95, 0.5),
        ("distance_mm", 1.5, 0),
        ("iou", 3.5 / 6.5, 1),
        ("false_marks_per_scan", 0, 1),
    ):
        values = [row[column] for row in rows]
        assert [float(values[0]), float(values[2])] == pytest.approx([of_a, of_c], abs=1e-4)
        assert values[1] == values[3] == ""


def test_the_tables_of_luna16_by_hand(tmp_path):
    _run(ITEMS, tmp_path)
    assert (tmp_path / "seriesuids.csv").read_text().split() == ["p1", "p2", "p3"]
    excluded = (tmp_path / "excluded.csv").read_text().strip()
    assert excluded == "seriesuid,coordX,coordY,coordZ,diameter_mm"
    marks = _rows(tmp_path, "marks")
    assert [row["seriesuid"] for row in marks] == ["p1"] * 3 + ["p2"] * 3
    first = [float(marks[0][f"coord{axis}"]) for axis in "XYZ"]
    assert first == pytest.approx([-20, -30, -18.5], abs=1e-4)
    assert float(marks[0]["probability"]) == pytest.approx(0.95)
    findings = _rows(tmp_path, "annotations")
    diameters = [float(row["diameter_mm"]) for row in findings]
    assert diameters == pytest.approx([5, 12, 6, 0], abs=1e-4)  # 0 is never hit: lost
    assert float(findings[3]["coordY"]) == pytest.approx(-30)
    lines = _command_lines(tmp_path)
    assert "true 2, false 3, missed 2, ignored 0, double 1" in lines
    assert lines[-1].startswith("CPM 0.392857 ")


def _oblique(rng: np.random.Generator, rank: int) -> np.ndarray:
    turn, _ = np.linalg.qr(rng.normal(size=(rank, rank)))
    affine = np.eye(4)
    affine[:rank, :rank] = turn @ np.diag((0.7, 0.9, 2.5)[:rank])
    affine[:rank, 3] = rng.normal(0, 50, rank)
    return affine


def _random_items(scans: int, rank: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(rank)
    items = []
    for number in range(scans):
        affine, shape = _oblique(rng, rank), (60, 50, 20)[:rank]

        def placed(low: float, high: float, shape=shape, affine=affine) -> list[float]:
            voxel = rng.uniform(low, high, rank) * shape
            return (affine[:rank, :rank] @ voxel + affine[:rank, 3]).tolist()

        boxes = [[*placed(-0.1, 1.1), *rng.uniform(2, 11, rank)] for _ in range(number % 4)]
        near = [[*(np.array(box[:rank]) + rng.normal(0, 1.5, rank)), *box[rank:]] for box in boxes]
        far = [[*placed(0, 1), *rng.uniform(2, 11, rank)] for _ in range(number % 5 * 3)]
        # Scores of two digits, so that there are ties.
        marks = [(box, round(rng.random(), 2)) for box in near + near[:1] + far]
        # Two scans a patient.
        patient = f"p{number // 2}"
        rest = {"affine": affine, "shape": shape, "image": f"scan{number}"}
        items.append(_item(patient, boxes, marks) | rest)
    return items


@pytest.mark.parametrize("rank", [2, 3])
def test_the_command_has_the_metric_of_the_engine(rank, tmp_path):
    _run(_random_items(14, rank), tmp_path)
    evaluation = _evaluation(tmp_path)
    assert evaluation["lost_boxes"] > 0
    assert evaluation["counts"]["double"] > 0
    lines = _command_lines(tmp_path)
    values = evaluation["metrics"]
    assert lines[0] == f"14 scans, {evaluation['nodules']} nodules"
    cpm = f"CPM {values['cpm']:.6f} [{values['cpm_low']:.6f}, {values['cpm_high']:.6f}]"
    assert lines[-1] == cpm
    counts = evaluation["counts"]
    assert lines[-2] == (
        f"true {counts['true']}, false {counts['false']}, missed {counts['missed']}, "
        f"ignored 0, double {counts['double']}"
    )
    if rank == 2:
        assert {row["coordZ"] for row in _rows(tmp_path, "marks")} == {"0.0"}


@pytest.mark.parametrize("rank", [2, 3])
def test_nodules_and_scans_are_those_of_the_loops(rank, tmp_path):
    items = _random_items(14, rank)
    _run(items, tmp_path)
    marks, nodules = _rows(tmp_path, "marks"), _rows(tmp_path, "nodules")
    series = (tmp_path / "seriesuids.csv").read_text().split()
    assert series == series_names([item["patient_id"] for item in items])

    def place(row):
        return np.array([float(row[f"coord{axis}"]) for axis in "XYZ"])

    hits = [
        [
            mark
            for mark in marks
            if mark["seriesuid"] == nodule["seriesuid"]
            and nodule["lost"] == "no"
            and math.dist(place(mark), place(nodule)) < float(nodule["diameter_mm"]) / 2
        ]
        for nodule in nodules
    ]
    hitting = {id(mark) for own in hits for mark in own}
    false = [mark for mark in marks if id(mark) not in hitting]
    found: list[float | None] = []
    for nodule, own in zip(nodules, hits, strict=True):
        if not own:
            assert nodule["score"] == nodule["iou"] == nodule["distance_mm"] == ""
            found.append(None)
            continue
        best = max(own, key=lambda mark: float(mark["probability"]))
        score = float(best["probability"])
        found.append(score)
        assert float(nodule["score"]) == score
        of_that_score = [mark for mark in own if float(mark["probability"]) == score]
        distances = [math.dist(place(mark), place(nodule)) for mark in of_that_score]
        assert min(abs(float(nodule["distance_mm"]) - each) for each in distances) < 1e-4
        passing = sum(float(mark["probability"]) >= score for mark in false)
        assert float(nodule["false_marks_per_scan"]) == pytest.approx(passing / 14)
        assert 0 < float(nodule["iou"]) <= 1
    thresholds = []
    for rate in FALSE_POSITIVES_PER_SCAN:
        fitting = [
            score
            for score in {float(mark["probability"]) for mark in false} | {s for s in found if s}
            if sum(float(mark["probability"]) >= score for mark in false) <= rate * 14
        ]
        thresholds.append(min(fitting, default=math.inf))
    evaluation = _evaluation(tmp_path)
    for point, threshold in zip(evaluation["operating_points"], thresholds, strict=True):
        assert point["threshold"] == (threshold if math.isfinite(threshold) else None)
    rows = _rows(tmp_path, "per_scan")
    for scan, row in zip(series, rows, strict=True):
        own_scores = [
            (nodule, -math.inf if score is None else score)
            for nodule, score in zip(nodules, found, strict=True)
            if nodule["seriesuid"] == scan
        ]
        assert int(row["nodules"]) == len(own_scores)
        at_1 = sum(score >= thresholds[3] for _, score in own_scores)
        assert int(row["found_at_1"]) == at_1
        assert int(row["false_at_1"]) == sum(
            mark["seriesuid"] == scan and float(mark["probability"]) >= thresholds[3]
            for mark in false
        )
        for size in ("", *SIZE_CLASSES):
            of_size = [score for nodule, score in own_scores if size in ("", nodule["size_class"])]
            suffix = size and f"_{size}"
            assert int(row[f"nodules{suffix}"]) == len(of_size)
            mean = sum(score >= limit for score in of_size for limit in thresholds) / 7
            assert float(row[f"mean_found{suffix}"]) == pytest.approx(mean)
    # What LUNA16 reads off between two scores is the rest.
    cpm, by_thresholds = (
        evaluation["metrics"]["cpm"],
        sum(float(row["mean_found"]) for row in rows) / len(nodules),
    )
    assert cpm - 0.05 < by_thresholds <= cpm + 1e-12
    for parts in ("by_size", "by_nodules_in_scan"):
        known = [part for part in evaluation[parts].values() if part["nodules"]]
        weighted = sum(part["nodules"] * part["cpm"] for part in known)
        assert weighted / len(nodules) == pytest.approx(cpm)


def test_a_mark_beside_a_lost_nodule_does_not_find_it(tmp_path):
    # The nodule's centre is 0.75 mm outside of the image, the mark's inside, 1.25 mm away.
    item = _item("p", [_cube(9, 30, -10, 8)], [(_cube(10.25, 30, -10, 8), 0.9)])
    _run([item], tmp_path)
    assert _evaluation(tmp_path)["metrics"]["cpm"] == 0
    lines = _command_lines(tmp_path)
    assert "true 0, false 1, missed 1, ignored 0, double 0" in lines
    assert lines[-1].startswith("CPM 0.000000")


def test_a_lost_nodule_is_one_of_its_own_scan(tmp_path):
    items = [
        _item("p", [_cube(20, 30, -20, 5), _cube(0, 30, -10, 8)], [], image="first"),
        _item("p", [_cube(25, 30, -20, 5), _cube(30, 5, -10, 16)], [], image="second"),
    ]
    _run(items, tmp_path)
    lost = [row for row in _rows(tmp_path, "nodules") if row["lost"] == "yes"]
    assert [(row["patient_id"], row["seriesuid"]) for row in lost] == [("p", "p"), ("p", "p_2")]
    assert [float(row["coordY"]) for row in lost] == pytest.approx([-30, -5])
    assert [float(row["diameter_mm"]) for row in lost] == pytest.approx([8, 16])
    assert [row["patient_id"] for row in _rows(tmp_path, "per_scan")] == ["p", "p"]


def test_without_the_items_a_lost_nodule_has_no_place_and_no_size(tmp_path):
    _run(ITEMS, tmp_path, listed=False)
    evaluation = _evaluation(tmp_path)
    assert (evaluation["nodules"], evaluation["lost_boxes"]) == (4, 1)
    assert sum(part["nodules"] for part in evaluation["by_size"].values()) == 3
    lost = _rows(tmp_path, "nodules")[3]
    assert (lost["lost"], lost["coordX"], lost["diameter_mm"], lost["size_class"]) == (
        "yes",
        "",
        "",
        "",
    )
    finding = _rows(tmp_path, "annotations")[3]
    assert {finding[name] for name in ("coordX", "coordY", "coordZ", "diameter_mm")} == {"0.0"}
    assert _command_lines(tmp_path)[-1].startswith("CPM 0.392857")


def test_no_nodule_in_any_scan(tmp_path):
    (tmp_path / "froc.png").touch()
    _run([_item("p1", [], ITEMS[0]["marks"]), ITEMS[2]], tmp_path)
    evaluation = _evaluation(tmp_path)
    assert evaluation["metrics"] == {"cpm": None}
    assert evaluation["counts"] == {"true": 0, "false": 3, "double": 0, "missed": 0}
    assert evaluation["by_size"]["under_6_mm"]["cpm"] is None
    # Two false marks in two scans are 1 a scan; the third is one too many.
    thresholds = [point["threshold"] for point in evaluation["operating_points"]]
    assert thresholds[:2] == [None, None]
    assert thresholds[2:] == pytest.approx([0.95, 0.9, 0.8, 0.8, 0.8])
    assert [row["false_at_1"] for row in _rows(tmp_path, "per_scan")] == ["2", "0"]
    assert _rows(tmp_path, "nodules") == _rows(tmp_path, "annotations") == []
    assert len(_rows(tmp_path, "marks")) == 3
    assert not (tmp_path / "froc.png").exists()


def test_no_mark_in_any_scan(tmp_path, capsys):
    _run([_item("p1", ITEMS[0]["boxes"], []), ITEMS[2]], tmp_path)
    evaluation = _evaluation(tmp_path)
    assert evaluation["metrics"]["cpm"] == 0
    assert evaluation["counts"] == {"true": 0, "false": 0, "double": 0, "missed": 2}
    assert {point["threshold"] for point in evaluation["operating_points"]} == {None}
    assert [row["mean_found"] for row in _rows(tmp_path, "per_scan")] == ["0.0", "0.0"]
    assert _rows(tmp_path, "marks") == []
    assert (tmp_path / "froc.png").exists()
    names = {"annotations": "annotations", "excluded": "excluded", "seriesuids": "seriesuids"}
    options = [f"--{name}={tmp_path / name}.csv" for name in names]
    assert froc_command([*options, f"--submission={tmp_path / 'marks.csv'}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("CPM 0.000000 ")


def test_failed_scans_are_listed_and_the_exit_code_is_not_zero(tmp_path):
    writer = _run([ITEMS[0], BROKEN, ITEMS[1]], tmp_path)
    with pytest.raises(SystemExit, match="1 of 3 scans failed, the first: broken: the file"):
        writer.finish()
    evaluation = _evaluation(tmp_path)
    assert evaluation["failed"] == [{"scan": "broken", "error": "broken: the file must exist"}]
    assert evaluation["scans"] == 2
    assert [row["patient_id"] for row in _rows(tmp_path, "per_scan")] == ["p1", "p2"]


def test_when_all_fail_the_files_are_there_without_a_number(tmp_path):
    with pytest.raises(SystemExit, match="1 of 1 scans failed"):
        _run([BROKEN], tmp_path).finish()
    evaluation = _evaluation(tmp_path)
    assert (evaluation["scans"], evaluation["nodules"], evaluation["marks"]) == (0, 0, 0)
    assert evaluation["metrics"] == {"cpm": None}
    for name in ("per_scan", "nodules", "marks", "annotations", "excluded"):
        assert _rows(tmp_path, name) == []
    assert (tmp_path / "per_scan.csv").read_text().startswith("patient_id,nodules,lost_boxes,")
    assert not (tmp_path / "froc.png").exists()


def test_one_scan(tmp_path):
    _run(ITEMS[:1], tmp_path)
    evaluation = _evaluation(tmp_path)
    assert "cpm_low" not in evaluation["metrics"]
    assert _command_lines(tmp_path)[-1].startswith(f"CPM {evaluation['metrics']['cpm']:.6f}")


def test_a_score_that_is_not_finite_is_refused(tmp_path):
    item = _item("p1", [], [(_cube(20, 30, -20, 5), math.nan)])
    with pytest.raises(ValueError, match="p1: the network's scores must be finite, got nan"):
        _run([item], tmp_path)


def test_an_unusable_output_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="output_dir must be a writable folder"):
        _run(ITEMS, tmp_path / "out")


def test_series_have_names_of_their_own():
    assert series_names(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_3", "a_2", "a_4"]
    assert series_names([]) == []
