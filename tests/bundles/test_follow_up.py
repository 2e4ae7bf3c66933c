from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundles.follow_up import main
from handlers import SegmentationReport

DATES = ["--before-date", "2024-01-05", "--after-date", "2024-07-03"]


def predicted(folder: Path, name: str, radii_mm: dict[tuple[int, int, int], float]) -> Path:
    """What an inference writes of digital spheres round these RAS points, in voxels of 1 mm."""
    grid = np.indices((80, 64, 48))
    inside = np.zeros(grid.shape[1:])
    for centre, radius_mm in radii_mm.items():
        offsets = grid - np.reshape(centre, (3, 1, 1, 1))
        inside = np.maximum(
            inside, np.clip(radius_mm - np.linalg.norm(offsets, axis=0) + 0.5, 0, 1)
        )
    scan = MetaTensor(
        torch.from_numpy(-850 + 880 * inside).float()[None],
        affine=torch.eye(4, dtype=torch.float64),
        meta={"filename_or_obj": f"{name}.nii.gz"},
    )
    report = SegmentationReport(max_pictures=0)
    folder.mkdir(exist_ok=True)
    report.start({"bundle": "test"})
    logits = torch.from_numpy(inside - 0.5).float()[None, None]
    prediction = {"logits": logits, "affine": scan.affine}
    report(prediction, image=scan, scan=scan, name=name, folder=folder)
    return folder / f"{name}_nodules.json"


def numbers(number: int, centre_mm: tuple[float, ...], **others: Any) -> dict[str, Any]:
    sizes = {"longest_mm": 9.0, "perpendicular_mm": 7.0, "mean_diameter_mm": 8.0}
    volumes = {"voxel_count_mm3": 268.0, "weighted_mm3": 260.0, "mass_mg": 270.0}
    density = {"nodule_hu": 10.0, "lung_hu": -850.0}
    place = {"number": number, "centre_ras_mm": list(centre_mm)}
    return {**place, **sizes, **volumes, **density, **others}


def written(path: Path, nodules: list[dict[str, Any]], **others: Any) -> Path:
    content = {"scan": f"{path.stem}.nii.gz", "frame": "LPS", "nodules_in_mask": len(nodules)}
    path.write_text(json.dumps({**content, "nodules": nodules, **others}))
    return path


def run(before: Path, after: Path, *others: str) -> int:
    return main(["--before", str(before), "--after", str(after), *DATES, *others])


def test_two_predictions_become_a_table_and_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grown = 6 * 2 ** (1 / 3)
    before = predicted(tmp_path, "first", {(20, 20, 20): 6.0, (55, 40, 20): 5.5})
    after = predicted(tmp_path / "later", "second", {(22, 21, 20): grown, (60, 12, 30): 4.0})
    output = tmp_path / "change.json"
    # Half of the shorter list stands where it stood: the frames agree.
    assert run(before, after, "--output", str(output)) == 0
    record = json.loads(output.read_text())
    (change,) = record["changes"]
    assert (record["days"], record["shift_source"], record["shift_mm"]) == (180, "none", [0, 0, 0])
    assert change["volume"] == "weighted"
    assert change["volume_growth_percent"] == pytest.approx(100, abs=3)
    assert change["doubling_time_days"] == pytest.approx(180, rel=0.03)
    assert change["distance_mm"] == pytest.approx(math.sqrt(5), abs=0.01)
    assert change["lung_rads_growth"] and change["fleischner_growth"] and change["bts_growth"]
    assert set(change) == set(record["change_keys"])
    assert [each["number"] for each in record["gone"]] == [2]
    assert [each["number"] for each in record["new"]] == [2]
    assert record["recist"]["targets"] == [1, 2]
    assert (record["recist"]["target_response"], record["recist"]["response"]) == ("PR", "PD")
    assert (record["before"]["scan"], record["before"]["date"]) == ("first.nii.gz", "2024-01-05")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("180 days: 1 seen twice, 1 gone, 1 new")
    assert "Lung-RADS, Fleischner, BTS" in lines[4]
    assert "lung targets 1 and 2: " in lines[-2] and "PR; PD if a reader confirms" in lines[-2]
    assert lines[-1].startswith("Research use only")


def test_scans_of_frames_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [(60.0, -20.0, 10.0), (-70.0, 40.0, 90.0), (50.0, 30.0, 160.0)]
    moved = [(x + 8, y - 11, z + 1741) for x, y, z in places]
    before = written(tmp_path / "a.json", [numbers(i, p) for i, p in enumerate(places, 1)])
    after = written(tmp_path / "b.json", [numbers(i, p) for i, p in enumerate(moved, 1)])
    assert run(before, after) == 0
    assert "shift of the scans: +8.0, -11.0, +1741.0 mm (as the nodules agree)" in (
        capsys.readouterr().out
    )
    one = written(tmp_path / "one.json", [numbers(1, places[0])])
    other = written(tmp_path / "other.json", [numbers(1, moved[0], weighted_mm3=None)])
    assert run(one, other) == 1
    assert "the shift between the two scans must be given" in capsys.readouterr().err
    assert run(one, other, "--shift-mm", "8", "-11", "1740") == 0
    out = capsys.readouterr().out
    assert "1 seen twice, 0 gone, 0 new" in out
    assert "268 -> 268*" in out and "unchanged" in out and "counted voxels" in out
    assert "no nodule of the first scan is measurable" in out


def test_scans_without_nodules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.json", [])
    other = written(tmp_path / "other.json", [])
    assert run(one, other) == 0
    assert "0 seen twice, 0 gone, 0 new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dates", "sentence"),
    [
        (("2024-07-03", "2024-01-05"), "must be of a later day than the first, got 2024-07-03 and"),
        (("2024-07-03", "2024-07-03"), "must be of a later day than the first"),
        (("05.01.2024", "2024-07-03"), "--before-date must be a date such as 2024-01-05, got 05.0"),
        (("2024-01-05", "2024-02-30"), "--after-date must be a date such as 2024-01-05, got 2024-"),
    ],
)
def test_dates_that_cannot_be(
    dates: tuple[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = written(tmp_path / "one.json", []), written(tmp_path / "other.json", [])
    output = tmp_path / "change.json"
    options = ["--before-date", dates[0], "--after-date", dates[1], "--output", str(output)]
    assert main(["--before", str(one), "--after", str(other), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no json", "must be a <name>_nodules.json, got no JSON"),
        ("[1]", "must be a <name>_nodules.json, got a list"),
        ('{"scans": []}', "must be a <name>_nodules.json with scan, got None"),
        ({"frame": "RAS"}, "frame must be LPS, got 'RAS'"),
        ({"nodules_in_mask": 140}, "must have every nodule of its mask measured, got 1 of 140"),
        ({"nodules": [numbers(2, (0, 0, 0))]}, "nodules must be numbered from 1"),
        ({"nodules": [numbers(1, (0, 0))]}, "nodule 1: centre_ras_mm must be three finite numbers"),
        ({"nodules": [numbers(1, (0, 0, math.nan))]}, "centre_ras_mm must be three finite"),
        (
            {"nodules": [numbers(1, (0, 0, 0), voxel_count_mm3=None)]},
            "nodule 1: voxel_count_mm3 must be finite and above 0, got None",
        ),
        (
            {"nodules": [numbers(1, (0, 0, 0), weighted_mm3=0.0)]},
            "weighted_mm3 must be null or above 0, got 0.0",
        ),
        ({"nodules": [numbers(1, (0, 0, 0), mass_mg="9")]}, "mass_mg must be finite, got '9'"),
    ],
)
def test_files_that_are_no_such_json(
    text: str | dict[str, Any],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = written(tmp_path / "good.json", []), tmp_path / "bad.json"
    if isinstance(text, str):
        bad.write_text(text)
    else:
        written(bad, **{"nodules": [numbers(1, (0, 0, 0))], **text})
    output = tmp_path / "change.json"
    assert run(good, bad, "--output", str(output)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line and str(bad) in line
    assert not output.exists()


def test_paths_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = written(tmp_path / "one.json", [])
    other = written(tmp_path / "other.json", [])
    before = one.read_bytes()
    for arguments, sentence in (
        ((one, tmp_path / "none.json"), "none.json must be a usable file: No such file"),
        ((one, one), "the two files must be of two scans, got one.nii.gz twice"),
        ((one, other, "--output", str(one)), "--output must be another file than those read"),
        ((one, other, "--output", str(tmp_path / "no" / "x.json")), "must be a usable file: No su"),
        ((one, other, "--shift-mm", "nan", "0", "0"), "affine must be (4, 4) of finite numbers"),
        ((one, other, "--max-distance-mm", "0"), "max_distance_mm must be finite and above 0"),
    ):
        assert run(*arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert sentence in line
    assert one.read_bytes() == before
