from __future__ import annotations

import csv
import json

import pytest
import torch

from benchmarks import detector_accuracy
from benchmarks.detector_accuracy import compare_detectors, compared, write_findings
from benchmarks.detector_training import Setup, peer_targets, published_rate
from cohorts import CohortSettings, ScannerSettings, make_cohort

TINY = """
spacing_mm: [6.0, 6.0, 6.0]
lung_shape: [48, 48, 48]
tile_shape: [64, 64, 48]
patch_shape: [32, 32, 16]
batch_size: 2
network_def::channels: [8, 8, 8, 8]
"""


def _datalist(folder, boxes_of_scans):
    items = [
        {"patient_id": f"p{number}", "image": "scan.nii.gz", "risk": 0, "boxes": boxes,
         "box_labels": [0] * len(boxes)}
        for number, boxes in enumerate(boxes_of_scans)
    ]  # fmt: skip
    (folder / "scan.nii.gz").touch()
    path = folder / "datalist.json"
    path.write_text(json.dumps({"world_frame": "RAS", "box_mode": "cccwhd", "testing": items}))
    return path


def _submit(folder, rows):
    folder.mkdir()
    with (folder / "submission.csv").open("w", newline="") as file:
        header = ("seriesuid", "coordX", "coordY", "coordZ", "probability")
        csv.writer(file).writerows([header, *rows])


def test_nodules_are_grouped_by_the_mean_of_their_sides(tmp_path):
    datalist = _datalist(tmp_path, [[[10, 20, 30, 4, 5, 6]], [], [[1, 2, 3, 6, 6, 6]]])
    write_findings(datalist, tmp_path / "out")
    assert (tmp_path / "out" / "series.csv").read_text() == "p0\np1\np2\n"

    def rows(name):
        text = (tmp_path / "out" / f"{name}.csv").read_text()
        return [line.split(",") for line in text.splitlines()[1:]]

    small = ["p0", "-10.0", "-20.0", "30.0", "5.0"]  # RAS to LPS
    large = ["p2", "-1.0", "-2.0", "3.0", "6.0"]
    assert rows("all_nodules") == [small, large]
    assert rows("all_excluded") == []
    assert rows("under_6_mm_nodules") == [small]
    assert rows("under_6_mm_excluded") == [large]


def test_a_cohort_without_a_small_nodule_is_refused_before_any_training(tmp_path):
    datalist = _datalist(tmp_path, [[[1, 2, 3, 6, 6, 6]]])
    with pytest.raises(ValueError, match="nodule of the group under_6_mm, got 0"):
        write_findings(datalist, tmp_path / "out")


def test_marks_on_larger_nodules_do_not_count_for_the_small_ones(tmp_path):
    small, large = [10, 20, 30, 4, 5, 6], [50, 20, 30, 8, 8, 8]
    write_findings(_datalist(tmp_path, [[small, large]] * 2), tmp_path)
    # Ours finds both everywhere, the large one first; the peer nothing.
    rows = [
        (scan, -x, -20, 30, score) for scan in ("p0", "p1") for x, score in ((50, 0.9), (10, 0.5))
    ]
    _submit(tmp_path / "ours", rows)
    _submit(tmp_path / "peer", [])
    for group, nodules in (("all", 4), ("under_6_mm", 2)):
        values = compared(tmp_path, group)
        assert values["nodules"] == nodules
        assert values["ours"]["cpm"] == {"value": 1, "low": 1, "high": 1}
        assert (values["ours"]["found"], values["ours"]["false_marks"]) == (nodules, 0)
        assert values["peer"]["cpm"]["value"] == 0
        assert values["cpm_difference"] == {"value": 1, "low": 1, "high": 1}


def test_the_peers_rate_rises_for_a_thirtieth_and_falls_at_half():
    shares = (0, 1 / 60, 1 / 30, 0.49, 0.5, 1)
    assert [published_rate(share) for share in shares] == [0.1, 0.5, 1, 1, 0.1, 0.1]


def test_the_peers_boxes_are_those_of_the_patch():
    table = torch.tensor([[-1.5, 2, 3, 4.25, 5, 9], [1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0]])
    batch = {
        "boxes_voxel": torch.stack((table, torch.zeros_like(table))),
        "box_count": torch.tensor([2, 0]),
    }
    first, empty = peer_targets(batch, (8, 8, 8))
    assert first["boxes"].tolist() == [[0, 2, 3, 4.25, 5, 8], [1, 1, 1, 2, 2, 2]]
    assert first["labels"].tolist() == [0, 0]
    assert empty["boxes"].shape == (0, 6)


def test_both_are_trained_applied_and_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(
        detector_accuracy, "in_fresh_process", lambda call, *arguments: call(*arguments)
    )
    settings = CohortSettings(
        training=2,
        validation=1,
        testing=2,
        seed=4,
        clean_fraction=0,
        max_diameter_mm=6,
        scanner=ScannerSettings(spacing_mm=(4.0, 4.0, 4.0)),
    )
    datalist = make_cohort(settings, tmp_path / "data", quiet=True)
    (tmp_path / "tiny.yaml").write_text(TINY)
    setup = Setup(datalist, ("demo", "disk_cache", str(tmp_path / "tiny.yaml")))
    record = compare_detectors(setup, tmp_path / "out", 1.0)
    ours, peer = record["training"]["ours"], record["training"]["peer"]
    assert peer["seconds"] >= max(1, ours["seconds"])
    assert ours["steps"] > peer["steps"] > 0
    assert set(record["froc"]) == {"all", "under_6_mm"}
    for side in ("ours", "peer"):
        assert (tmp_path / "out" / side / "submission.csv").is_file()
        assert (tmp_path / "out" / side / "model.pt").is_file()

    # The same command goes on: nothing is trained again.
    weights = tmp_path / "out" / "peer" / "model.pt"
    written = weights.stat().st_mtime_ns
    again = compare_detectors(setup, tmp_path / "out", 1.0)
    assert again["training"] == record["training"]
    assert again["froc"] == record["froc"]
    assert weights.stat().st_mtime_ns == written
