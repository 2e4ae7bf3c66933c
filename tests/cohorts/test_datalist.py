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
    clean = {"patient_id": "b", "image": "images/b.nii.gz", "risk": 0}
    return {"world_frame": "RAS", "box_mode": "cccwhd", "training": [item], "validation": [clean]}


def test_paths_become_absolute_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    write_datalist(datalist, path)
    (item,) = load_datalist(path, "training")
    assert item == {**datalist["training"][0], "image": str(tmp_path / "images" / "a.nii.gz")}
    assert json.loads(path.read_text()) == datalist
    assert sorted(file.name for file in tmp_path.iterdir()) == ["datalist.json", "images"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(world_frame="LPS"), "world_frame must be RAS, got 'LPS'"),
        (lambda d: d.pop("box_mode"), "box_mode must be cccwhd or ccwh, got None"),
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
        (lambda d: d.update(training=["a"]), r"training\[0\] must be an object, got 'a'"),
        (lambda d: d.update(training={}), "training must be a list, got dict"),
        (lambda d: d.update(training=[]), "training must hold at least one item, got none"),
    ],
)
def test_broken_rules_are_named(change: Change, message: str, tmp_path: Path) -> None:
    _assert_refused(change, message, tmp_path)


def _assert_refused(change: Change, message: str, tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    change(datalist)
    path.write_text(json.dumps(datalist))
    with pytest.raises(ValueError, match=message) as caught:
        load_datalist(path, "training")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_id": None}, r"patient_id of training\[0\] must be a text .* got None"),
        ({"patient_id": 7}, r"patient_id of training\[0\] must be a text .* got 7"),
        ({"patient_id": ["a"]}, r"patient_id of training\[0\] must be a text .* got \['a'\]"),
        ({"patient_id": " "}, r"patient_id of training\[0\] must be a text .* got ' '"),
        ({"patient_id": "ward/7"}, "has no path separator, got 'ward/7'"),
        ({"patient_id": "ward\\7"}, "has no path separator, got 'ward"),
        ({"image": None}, "image of a must be a path, got None"),
        ({"image": 3}, "image of a must be a path, got 3"),
        ({"mask": None}, "mask of a must be a path, got None"),
        ({"lungs": ["l"]}, r"lungs of a must be a path, got \['l'\]"),
        ({"risk": None}, "risk of a must be 0 or 1, got None"),
        ({"risk": 1.0}, r"risk of a must be 0 or 1, got 1\.0"),
        ({"risk": "1"}, "risk of a must be 0 or 1, got '1'"),
        ({"side": None}, "side of a must be one of .*, got None"),
        ({"side": ["left"]}, r"side of a must be one of .*, got \['left'\]"),
        ({"boxes": None}, "boxes of a must be a list, got None"),
        ({"boxes": {}}, "boxes of a must be a list, got {}"),
        ({"boxes": [None]}, "a box of a must be six finite numbers .* got None"),
        ({"boxes": [[0, 0, 5, 5]]}, r"a box of a must be six finite numbers \(cccwhd\), got"),
        ({"box_labels": None}, "box_labels of a must be a list, got None"),
        ({"box_labels": 1}, "box_labels of a must be a list, got 1"),
        ({"box_labels": [2]}, "a box label of a must be 0 or 1, got 2"),
        ({"box_labels": [1.0]}, r"a box label of a must be 0 or 1, got 1\.0"),
        ({"box_labels": ["malignant"]}, "a box label of a must be 0 or 1, got 'malignant'"),
        ({"box_labels": [None]}, "a box label of a must be 0 or 1, got None"),
        ({"nodules": None}, "nodules of a must be a list, got None"),
        ({"risk": 0, "side": "none"}, r"box_labels of a must all be 0 where risk is 0, got \[1\]"),
        ({"risk": 0, "box_labels": [0]}, "side of a must be none where risk is 0, got 'left'"),
        (
            {"risk": 0, "box_labels": [0], "side": "unknown"},
            "side of a must be none where risk is 0, got 'unknown'",
        ),
        (
            {"risk": 0, "box_labels": [0], "side": "none"},
            r"years_to_diagnosis of a must be null where risk is 0, got 1\.5",
        ),
        (
            {"censoring_years": 1.25},
            r"censoring_years of a must not be below years_to_diagnosis, got 1\.25 and 1\.5",
        ),
        ({"years_to_diagnosis": float("nan")}, "years_to_diagnosis of a must be above 0, got nan"),
        ({"side": "none"}, "side of a must not be none where risk is 1, got 'none'"),
    ],
)
def test_wrong_values_of_an_item_are_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _assert_refused(lambda datalist: datalist["training"][0].update(change), message, tmp_path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("patient_id", r"patient_id of training\[0\] must be a text .* got None"),
        ("image", "image of a must be a path, got None"),
        ("risk", "risk of a must be 0 or 1, got None"),
        ("box_labels", r"box_labels of a must come with boxes, got \[\[.*\]\] alone"),
        ("boxes", r"boxes of a must come with box_labels, got \[1\] alone"),
    ],
)
def test_missing_keys_are_named(key: str, message: str, tmp_path: Path) -> None:
    _assert_refused(lambda datalist: datalist["training"][0].pop(key), message, tmp_path)


@pytest.mark.parametrize(("risk", "side"), [(0, "none"), (1, "unknown"), (False, "none")])
def test_boxes_and_side_may_be_left_out(risk: int, side: str, tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    datalist["validation"][0]["risk"] = risk
    write_datalist(datalist, path)
    (item,) = load_datalist(path, "validation")
    image = str(tmp_path / "images" / "b.nii.gz")
    filled = {"boxes": [], "box_labels": [], "side": side, "risk": int(risk)}
    assert item == {"patient_id": "b", "image": image, **filled}
    assert type(item["risk"]) is int


@pytest.mark.parametrize(
    "times",
    [
        {"years_to_diagnosis": None, "censoring_years": 2.0},
        {"years_to_diagnosis": 2.0, "censoring_years": 2.0},
        {"years_to_diagnosis": 2.0, "censoring_years": None},
    ],
)
def test_follow_up_may_be_left_out_or_end_with_the_diagnosis(
    times: dict[str, float | None], tmp_path: Path
) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    datalist["training"][0].update(times)
    datalist["validation"][0].update(years_to_diagnosis=None, censoring_years=4)
    write_datalist(datalist, path)
    item = load_datalist(path, "training")[0]
    assert {key: item[key] for key in times} == times


def test_what_is_given_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    datalist["training"][0].update(risk=True, box_labels=[True], side="both")
    write_datalist(datalist, path)
    (item,) = load_datalist(path, "training")
    assert (item["risk"], item["box_labels"], item["side"]) == (1, [1], "both")
    assert len(item["boxes"]) == 1
    # A cancer may lie where nobody drew a box.
    datalist["training"][0].update(boxes=[], box_labels=[], nodules=[])
    write_datalist(datalist, path)
    assert load_datalist(path, "training")[0]["risk"] == 1


def test_names_may_hold_braces(tmp_path: Path) -> None:
    path = tmp_path / "{list}.json"
    datalist = make_datalist(tmp_path)
    datalist["training"][0]["patient_id"] = "{7}"
    write_datalist(datalist, path)
    assert load_datalist(path, "training")[0]["patient_id"] == "{7}"
    datalist["training"][0]["risk"] = 3
    with pytest.raises(ValueError, match=r"\{list\}\.json: risk of \{7\} must be 0 or 1, got 3"):
        write_datalist(datalist, path)


def test_boxes_in_two_dimensions_have_four_numbers(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    datalist = make_datalist(tmp_path)
    datalist["box_mode"] = "ccwh"
    with pytest.raises(ValueError, match=r"must be four finite numbers \(ccwh\), got"):
        write_datalist(datalist, path)
    # A centre may be negative, a size may not.
    datalist["training"][0]["boxes"] = [[-3.0, -4.0, 5.0, 6.0]]
    write_datalist(datalist, path)
    assert load_datalist(path, "training")[0]["boxes"] == [[-3.0, -4.0, 5.0, 6.0]]
    datalist["training"][0]["boxes"] = [[3.0, 4.0, 0.0, 6.0]]
    with pytest.raises(ValueError, match="must have sizes above 0"):
        write_datalist(datalist, path)


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


def test_a_collection_without_a_word_on_cancer_gives_no_risk(tmp_path: Path) -> None:
    path = tmp_path / "datalist.json"
    write_datalist({**make_datalist(tmp_path), "knows_cancer": False}, path)
    assert len(load_datalist(path, "training")) == 1
    with pytest.raises(ValueError, match="knows who has cancer, got knows_cancer false"):
        load_datalist(path, "training", with_risk=True)
