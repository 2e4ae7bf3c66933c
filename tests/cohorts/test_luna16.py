from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cohorts.datalist import load_datalist
from cohorts.luna16 import Luna16, luna16_fold, main

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
# The two scans of the one patient of LUNA16 that has two, in subsets 2 and 6.
TWICE = (
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.159996104466052855396410079250",
    "1.3.6.1.4.1.14519.5.2.1.6279.6001.316900421002460665752357657094",
)


@pytest.fixture
def collection(tmp_path: Path, write_metaimage: Callable[..., Path]) -> Path:
    """Three subsets of two scans; the second of each has no nodule."""
    folder = tmp_path / "luna16"
    for subset in range(3):
        for number in range(2):
            write_metaimage(folder / f"subset{subset}" / f"1.{subset}.{number}.mhd")
    rows = "".join(f"1.{subset}.0,-5.5,3,{10 + subset},6.5\n" for subset in range(3))
    (folder / "annotations.csv").write_text(HEADER + rows + "1.0.0,2,2,40,4\n")
    return folder


def command(collection: Path, *options: str) -> int:
    output = collection.parent / "out"
    return main(["--input", str(collection), "--output", str(output), *options])


def fold(collection: Path, number: int) -> dict:
    return json.loads((collection.parent / "out" / f"fold{number}.json").read_text())


def test_each_fold_holds_out_its_subset(collection: Path) -> None:
    assert command(collection, "--fold", "0", "1") == 0
    first = fold(collection, 0)
    assert [item["series_uid"] for item in first["training"]] == ["1.1.0", "1.2.0"]
    (held,) = first["validation"]
    # LPS to RAS, and the diameter is each side of the cube.
    assert held["boxes"] == [[5.5, -3.0, 10.0, 6.5, 6.5, 6.5], [-2.0, -2.0, 40.0, 4.0, 4.0, 4.0]]
    assert first["box_label_names"] == ["nodule"]
    assert not first["knows_cancer"]
    assert [item["series_uid"] for item in fold(collection, 1)["validation"]] == ["1.1.0"]
    items = load_datalist(collection.parent / "out" / "fold0.json", "training")
    assert Path(items[0]["image"]).resolve() == collection / "subset1" / "1.1.0.mhd"


def test_scans_without_nodules_come_when_asked(collection: Path) -> None:
    assert command(collection, "--fold", "0", "--clean-scans") == 0
    assert [item["boxes"] for item in fold(collection, 0)["validation"]][1] == []
    assert len(fold(collection, 0)["training"]) == 4


def test_another_subset_may_choose_the_weights(collection: Path) -> None:
    assert command(collection, "--fold", "0", "--validation-subset", "2") == 0
    lists = fold(collection, 0)
    series = [[item["series_uid"] for item in lists[split]] for split in
              ("training", "validation", "testing")]  # fmt: skip
    assert series == [["1.1.0"], ["1.2.0"], ["1.0.0"]]
    assert command(collection, "--fold", "0", "--validation-subset", "0") == 1


def test_scans_that_are_not_there_are_named(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / "uid_to_subset.json").write_text(
        json.dumps({f"1.{subset}.{number}": subset for subset in range(3) for number in range(2)})
    )
    for file in (collection / "subset1").iterdir():
        file.unlink()
    assert command(collection, "--fold", "0") == 1
    assert "got none for 2, listed in" in capsys.readouterr().err
    missing = collection.parent / "out" / "missing.txt"
    assert missing.read_text().split() == ["1.1.0", "1.1.1"]
    assert [item["series_uid"] for item in fold(collection, 0)["training"]] == ["1.2.0"]
    assert command(collection, "--fold", "0", "--allow-missing") == 0
    assert fold(collection, 0)["training"][0]["image"] == "../luna16/subset1/1.1.0.mhd"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.1.0,-5.5,3,11,6.5", r"annotations.csv, row 6: a nodule must be named once, .* row 3"),
        ("1.1.0,-5.5,here,11,6.5", "row 6: coordY must be a finite number, got 'here'"),
        ("1.1.0,-5.5,,11,6.5", "row 6: coordY must be given, got an empty cell"),
        ("1.1.0,-5.5,4,11,0", "row 6: the diameter must be above 0 mm, got 0"),
        ("1.1.0,5,300,11,4", r"row 6: the nodule must lie in .*1.1.0.mhd of shape \(40, 40, 30\)"),
    ],
)
def test_a_wrong_row_costs_its_scan(
    row: str, message: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (collection / "annotations.csv").open("a") as stream:
        stream.write(f"{row}\n")
    assert command(collection, "--fold", "0") == 1
    first, last = capsys.readouterr().err.strip().splitlines()[-2:]
    assert re.search(message, first)
    assert "1 failed, listed above" in last
    assert [item["series_uid"] for item in fold(collection, 0)["training"]] == ["1.2.0"]


def test_an_unknown_series_and_a_cut_off_image_are_named(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subsets = {f"1.{subset}.{number}": subset for subset in range(3) for number in range(2)}
    (collection / "uid_to_subset.json").write_text(json.dumps(subsets))
    with (collection / "annotations.csv").open("a") as stream:
        stream.write("1.9,1,1,1,4\n")
    raw = collection / "subset2" / "1.2.0.raw"
    raw.write_bytes(raw.read_bytes()[:-1])
    assert command(collection, "--fold", "0", "--allow-missing") == 1
    error = capsys.readouterr().err
    assert "row 6: seriesuid must be in uid_to_subset.json, got 1.9" in error
    assert "1.2.0.raw: must hold the 96000 bytes that 1.2.0.mhd names, got 95999" in error


def test_without_any_scan_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "luna16").mkdir()
    assert command(tmp_path / "luna16") == 1
    assert "annotations.csv: the table must exist, got no file" in capsys.readouterr().err
    (tmp_path / "luna16" / "annotations.csv").write_text(HEADER)
    assert command(tmp_path / "luna16") == 1
    assert "must hold at least one image" in capsys.readouterr().err
    assert not (tmp_path / "out" / "fold0.json").exists()


def test_published_fold_0(shared_data: Path) -> None:
    published = json.loads((shared_data / "luna16/datasplit/dataset_fold0.json").read_text())
    luna16 = Luna16(shared_data / "luna16")
    assert not luna16.failures
    items = luna16.items(shared_data / "luna16", clean_scans=False, missing=True)
    ours = luna16_fold(items, 0)
    assert [len(ours[split]) for split in ("training", "validation")] == [534, 67]
    for split in ("training", "validation"):
        theirs = {Path(item["image"]).parent.name: item["box"] for item in published[split]}
        for item in ours[split]:
            boxes_lps = [[-x, -y, *rest] for x, y, *rest in item["boxes"]]
            assert boxes_lps == theirs.pop(item["series_uid"])
        assert not theirs
    clean = luna16.items(shared_data / "luna16", clean_scans=True, missing=True)
    assert len(clean) == 888


def test_a_patient_held_out_is_not_trained_on(shared_data: Path) -> None:
    items = Luna16(shared_data / "luna16").items(shared_data, clean_scans=True, missing=True)
    left_out = [luna16_fold(items, fold)["generator"]["left_out"] for fold in range(10)]
    assert left_out[2] == [TWICE[1]]
    assert left_out[6] == [TWICE[0]]
    assert sum(map(len, left_out)) == 2
