from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cohorts.collection import split_by_patient
from cohorts.datalist import SPLITS, check_datalist
from cohorts.luna25 import COLLECTION, TABLE, Luna25, main

HEADER = (
    "PatientID,SeriesInstanceUID,StudyDate,CoordX,CoordY,CoordZ,LesionID,AnnotationID,NoduleID,"
    "label,Age_at_StudyDate,Gender\n"
)
ROWS = (
    "100570,1.2.1,19990102,1.5,-3,10,1,100570_1_19990102,100570_1,1,63,Male\n"
    "100570,1.2.1,19990102,5,5,20,2,100570_2_19990102,100570_2,0,63,Male\n"
    "100570,1.2.2,20000102,1.5,-3,10,1,100570_1_20000102,100570_1,1,64,Male\n"
    "106364,1.2.3,19990102,0,0,10,1,106364_1_19990102,106364_1,0,67,Female\n"
)


@pytest.fixture
def collection(tmp_path: Path, write_metaimage: Callable[..., Path]) -> Path:
    folder = tmp_path / "luna25"
    for number in (1, 2, 3):
        write_metaimage(folder / "luna25_images" / f"1.2.{number}.mhd")
    (folder / TABLE).write_text(HEADER + ROWS)
    return folder


def command(collection: Path, *options: str) -> int:
    output = collection.parent / "out"
    return main(["--input", str(collection), "--output", str(output), *options])


def items(collection: Path) -> dict[str, dict]:
    datalist = json.loads((collection.parent / "out" / "datalist.json").read_text())
    return {item["series_uid"]: item for split in SPLITS for item in datalist[split]}


def test_nodules_become_boxes_of_the_nominal_size(collection: Path) -> None:
    assert command(collection, "--box-mm", "8") == 0
    first, second, third = (items(collection)[f"1.2.{number}"] for number in (1, 2, 3))
    assert first["boxes"] == [[-1.5, 3, 10, 8, 8, 8], [-5, -5, 20, 8, 8, 8]]
    assert first["box_labels"] == [1, 0]
    assert (first["risk"], first["side"], first["patient_id"]) == (1, "unknown", "100570")
    assert [nodule["NoduleID"] for nodule in first["nodules"]] == ["100570_1", "100570_2"]
    assert (second["study_date"], second["patient_id"]) == ("20000102", "100570")
    assert (third["risk"], third["side"]) == (0, "none")
    datalist = json.loads((collection.parent / "out" / "datalist.json").read_text())
    assert datalist["generator"]["box_mm"] == 8


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,1.2.3,19990102,0,0,10,1,a,b,0,67,Male", "row 6: a series must be of one patient, got"),
        ("106364,1.2.3,19990102,0,0,10,1,106364_1_19990102,b,0,67,F", "row 6: AnnotationID must"),
        ("106364,1.2.3,19990102,0,0,10,1,c,b,2,67,F", "row 6: label must be 0 or 1, got '2'"),
        ("106364,1.2.3,19990102,0,0,999,1,c,b,0,67,F", "row 6: the nodule must lie in .*1.2.3.mhd"),
    ],
)
def test_a_wrong_row_costs_its_scan(
    row: str, message: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (collection / TABLE).open("a") as stream:
        stream.write(f"{row}\n")
    assert command(collection) == 1
    assert re.search(message, capsys.readouterr().err)
    assert set(items(collection)) == {
        "1.2.1",
        "1.2.2",
    }


def test_a_row_that_is_cut_short_is_named(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / TABLE).write_text(HEADER + ROWS[:-20])
    assert command(collection) == 1
    assert re.search(r"row 5: must have 12 cells, got 9", capsys.readouterr().err)


def test_scans_that_are_not_there_are_named(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / "luna25_images" / "1.2.3.mhd").unlink()
    assert command(collection) == 1
    assert "got none for 1, listed in" in capsys.readouterr().err
    assert (collection.parent / "out" / "missing.txt").read_text() == "1.2.3\n"
    assert command(collection, "--allow-missing") == 0
    assert items(collection)["1.2.3"]["image"] == "../luna25/1.2.3.mha"


def test_the_published_table(shared_data: Path) -> None:
    folder = shared_data / "luna25"
    luna25 = Luna25(folder, folder / TABLE, box_mm=10)
    assert not luna25.failures
    listed = luna25.items(folder, missing=True)
    assert len(listed) == len(luna25.missing) == 4069
    labels = [label for item in listed for label in item["box_labels"]]
    assert (len(labels), sum(labels)) == (6163, 555)
    check_datalist(COLLECTION.datalist(split_by_patient(listed), {}), folder / "none")
