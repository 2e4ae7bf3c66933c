from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cohorts import load_datalist, write_datalist

Change = Callable[[dict[str, Any]], object]


def make_datalist(folder: Path) -> dict[str, Any]:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.nii.gz").write_bytes(b"")
    (folder / "images" / "b.nii.gz").write_bytes(b"")
    item = {
        "patient_id": "a",
        "image": "images/a.nii.gz",
        "boxes": [[0.0, 0.0, 0.0, 5.0, 5.0, 5.0]],
        "box_labels": [1],
        "nodules": [{"instance": 1}],
        "risk": 1,
        "side": "left",
        "years_to_diagnosis": 1.5,
        "censoring_years": 3.0,
    }
    clean = {"patient_id": "b", "image": "images/b.nii.gz", "boxes": [], "box_labels": []}
    return {"world_frame": "RAS", "box_mode": "cccwhd", "training": [item], "validation": [clean]}


def test_paths_become_absolute_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    write_datalist(datalist, path)
    (item,) = load_datalist(path, "training")
    assert item == {**datalist["training"][0], "image": str(tmp_path / "images" / "a.nii.gz")}
    (clean,) = load_datalist(path, "validation")
    assert clean["boxes"] == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["datalist.json", "images"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(world_frame="LPS"), "world_frame must be RAS, got 'LPS'"),
        (lambda d: d.pop("box_mode"), "box_mode must be cccwhd, got None"),
        (lambda d: d["training"][0].update(side="links"), "side of a must be one of"),
        (lambda d: d["training"][0].update(box_labels=[]), "same length, got 1, 0 and 1"),
        (lambda d: d["training"][0].update(nodules=[]), "same length, got 1, 1 and 0"),
        (lambda d: d["training"][0]["boxes"][0].__setitem__(4, 0.0), "must have sizes above 0"),
        (lambda d: d["training"][0]["boxes"][0].__setitem__(3, -2.0), "must have sizes above 0"),
        (lambda d: d["training"][0]["boxes"][0].pop(), "must be six finite numbers"),
        (lambda d: d["training"][0]["boxes"][0].__setitem__(0, None), "six finite numbers"),
        (lambda d: d["training"][0].update(years_to_diagnosis=0), "must be above 0, got 0"),
        (lambda d: d["training"][0].update(censoring_years=-1.0), "must be above 0, got -1.0"),
        (lambda d: d["training"][0].update(risk=2), "risk of a must be 0 or 1, got 2"),
        (lambda d: d["validation"][0].update(patient_id="a"), "one split, got a in training and"),
        (lambda d: d["training"][0].pop("image"), r"got training\[0\] without"),
        (lambda d: d.update(training={}), "training must be a list, got dict"),
        (lambda d: d.update(training=[]), "training must hold at least one item, got none"),
    ],
)
def test_broken_rules_are_named(change: Change, message: str, tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    change(datalist)
    path.write_text(json.dumps(datalist))
    with pytest.raises(ValueError, match=message) as caught:
        load_datalist(path, "training")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_unknown_split_missing_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    with pytest.raises(FileNotFoundError, match=r"datalist\.json: the datalist must exist"):
        load_datalist(path, "training")
    path.write_text('{"training": [')
    with pytest.raises(ValueError, match="the datalist must be JSON"):
        load_datalist(path, "training")
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be an object, got list"):
        load_datalist(path, "training")
    with pytest.raises(ValueError, match=r"split must be one of .* got 'test'"):
        load_datalist(path, "test")


def test_missing_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    write_datalist(make_datalist(tmp_path), path)
    (tmp_path / "images" / "a.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"image of a must exist, got images/a\.nii\.gz"):
        load_datalist(path, "training")


def test_a_broken_datalist_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    write_datalist(make_datalist(tmp_path), path)
    before = path.read_bytes()
    broken = make_datalist(tmp_path)
    broken["training"][0]["side"] = "up"
    with pytest.raises(ValueError, match="side of a must be one of"):
        write_datalist(broken, path)
    assert path.read_bytes() == before
