from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cohorts.datalist import SPLITS, read_datalist
from cohorts.dicom_scan import DicomScan
from cohorts.nlst import main, pixel_box, read_nlst_boxes
from cohorts.nlst_participants import LEFT, RIGHT, NlstParticipants
from cohorts.slice_lesions import slice_lesions
from transforms import boxes_to_voxels

COLUMNS = ("pid", "scr_days0", "scr_days1", "scr_days2", "candx_days", "fup_days", *LEFT, *RIGHT)


def table(path: Path, *rows: Mapping[str, object], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    return path


def fraction(x: float, y: float, width: float, height: float) -> dict[str, float]:
    return {"x": x, "y": y, "width": width, "height": height}


@pytest.fixture
def collection(tmp_path: Path, write_dicom: Callable[..., list[str]]) -> Path:
    """Two participants; the first has a cancer, boxed in two slices, and a localizer."""
    root = tmp_path / "nlst"
    first = {"PatientID": "100001", "StudyDate": "20000102"}
    uids = write_dicom(root / "100001/study/1.5", "1.5", **first)
    write_dicom(
        root / "100001/study/1.6", "1.6", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **first
    )
    write_dicom(root / "200002/study/1.7", "1.7", PatientID="200002", StudyDate="19990102")
    boxes = {
        uids[3]: [fraction(0.25, 0.5, 0.125, 0.25)],
        uids[0]: [],
        uids[2]: [fraction(0.25, 0.5, 0.25, 0.25), fraction(0.75, 0, 0.25, 0.25)],
    }
    (tmp_path / "boxes.json").write_text(json.dumps({"1.5": boxes, "1.99": {"1.99.1": []}}))
    table(
        tmp_path / "prsn.csv",
        {"pid": 100001, "scr_days1": 400, "candx_days": 765.25, "fup_days": 2000, "locrup": 1},
        {"pid": 200002, "scr_days0": 30, "fup_days": 30 + 1461},
    )
    return root


def command(collection: Path, *options: str) -> int:
    output = collection.parent / "out"
    return main(["--input", str(collection), "--output", str(output), "--workers", "1", *options])


def both(collection: Path) -> list[str]:
    folder = collection.parent
    return ["--boxes", str(folder / "boxes.json"), "--participants", str(folder / "prsn.csv")]


def items(collection: Path) -> dict[str, dict]:
    datalist = read_datalist(collection.parent / "out" / "datalist.json")
    return {item["patient_id"]: item for split in SPLITS for item in datalist[split]}


def test_boxes_times_and_side(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(collection, *both(collection)) == 0
    assert "boxes.json: 1 of 2 series are not in" in capsys.readouterr().out
    cancer, none = (items(collection)[name] for name in ("100001", "200002"))
    # 32 x 24 pixels of 1 mm, slices of 2 mm: columns 8 to 16, rows 12 to 18, slices 2 and 3,
    # from an origin of -16, -12, 0 LPS mm at the middle of the first voxel: z from 3 to 7 mm.
    np.testing.assert_allclose(
        cancer["boxes"], [[4.5, -2.5, 5, 8, 6, 4], [-11.5, 9.5, 4, 8, 6, 2]], atol=1e-6
    )
    assert [len(nodule["slice_boxes"]) for nodule in cancer["nodules"]] == [2, 1]
    assert cancer["box_labels"] == [1, 1]
    assert (cancer["risk"], cancer["side"], cancer["screening_year"]) == (1, "right", 1)
    assert cancer["years_to_diagnosis"] == pytest.approx(1)
    assert cancer["censoring_years"] == pytest.approx(1600 / 365.25)
    assert (none["risk"], none["side"], none["years_to_diagnosis"]) == (0, "none", None)
    assert none["censoring_years"] == pytest.approx(4)
    assert none["boxes"] == []
    image = nib.nifti1.load(collection.parent / "out" / cancer["image"])
    assert image.get_data_dtype() == np.int16
    # Low columns are the patient's right, and hold tissue.
    assert np.asarray(image.dataobj)[0].max() == 40
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [16, 12, 0, 1])


def test_without_participants_only_boxed_series_come(collection: Path) -> None:
    assert command(collection, "--boxes", str(collection.parent / "boxes.json")) == 0
    (item,) = items(collection).values()
    assert (item["risk"], item["side"], item["years_to_diagnosis"]) == (1, "unknown", None)


def test_a_run_repeated_goes_on(collection: Path) -> None:
    assert command(collection, *both(collection)) == 0
    images = sorted((collection.parent / "out" / "images").iterdir())
    before = [image.stat().st_mtime_ns for image in images]
    images[0].unlink()
    assert command(collection, *both(collection)) == 0
    after = [image.stat().st_mtime_ns for image in images]
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    # Another outcome in the table makes only that participant's item anew.
    prsn = collection.parent / "prsn.csv"
    prsn.write_text(prsn.read_text().replace("1491", "3000"))
    assert command(collection, *both(collection)) == 0
    assert items(collection)["200002"]["censoring_years"] == pytest.approx(2970 / 365.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("slice", "a slice with a box must be in the series, got no 1.5.88"),
        ("gap", "slices must be evenly spaced"),
        ("participant", "prsn.csv: a scan's participant must have a row, got no 100001"),
        ("diagnosis", "row 2: a scan must not be after the diagnosis, got scr_days1 400 and"),
        ("contradiction", "a scan with boxes of a cancer must have a diagnosis"),
        ("truncated", "1-98.dcm: its pixels must be readable"),
    ],
)
def test_a_scan_that_fails_costs_only_itself(
    change: str, message: str, collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = collection.parent
    boxes, prsn = folder / "boxes.json", folder / "prsn.csv"
    series = collection / "100001/study/1.5"
    if change == "slice":
        boxes.write_text(boxes.read_text().replace("1.5.4", "1.5.88"))
    elif change == "gap":
        (series / "1-97.dcm").unlink()
    elif change == "participant":
        prsn.write_text(prsn.read_text().replace("100001", "100009"))
    elif change == "diagnosis":
        prsn.write_text(prsn.read_text().replace("765.25", "399"))
    elif change == "contradiction":
        prsn.write_text(prsn.read_text().replace("765.25", ""))
    else:
        content = (series / "1-98.dcm").read_bytes()
        (series / "1-98.dcm").write_bytes(content[:-9])
    assert command(collection, *both(collection)) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert message in lines[0]
    assert list(items(collection)) == ["200002"]


def test_every_published_box_converts_and_comes_back(shared_data: Path) -> None:
    annotations = read_nlst_boxes(shared_data / "nlst" / "nlst_annotations.json")
    assert len(annotations) == 972
    rng = np.random.default_rng(0)
    converted = 0
    for slices in annotations.values():
        # The scans are not here: a made-up order of slices and a plausible grid.
        order = rng.permutation(len(slices)).tolist()
        slice_of_uid = dict(zip(slices, order, strict=True))
        affine = np.diag([-rng.uniform(0.5, 0.9), -rng.uniform(0.5, 0.9), 1.25, 1])
        affine[:3, 3] = rng.uniform(-400, 400, 3)
        affine = affine.astype(np.float32).astype(float)
        hu = np.broadcast_to(np.int16(0), (512, 512, len(slices)))
        scan = DicomScan(Path("made-up"), hu, affine, slice_of_uid)
        boxes_of_uid = {
            uid: [pixel_box(box, 512, 512) for box in boxes] for uid, boxes in slices.items()
        }
        boxes_mm, lesions = slice_lesions(boxes_of_uid, scan)
        assert len(boxes_mm) == len(lesions)
        drawn = [box for lesion in lesions for box in lesion["slice_boxes"]]
        converted += len(drawn)
        wanted = sorted([slice_of_uid[uid], *box] for uid, boxes in slices.items() for box in boxes)
        back = boxes_to_voxels(drawn, torch.as_tensor(affine)) if drawn else torch.zeros(0, 6)
        x0, y0, z0, x1, y1, _ = back.T
        fractions = torch.stack([z0, x0 / 512, y0 / 512, (x1 - x0) / 512, (y1 - y0) / 512], 1)
        rounded = sorted([round(row[0]), *row[1:]] for row in fractions.tolist())
        if wanted:
            np.testing.assert_allclose(rounded, wanted, atol=1e-6)
    assert converted == 9280


@pytest.mark.parametrize(
    ("locations", "side"),
    [
        ({"loclin": 1}, "left"),
        ({"locrhil": 1}, "right"),
        ({"loclup": 1, "locrlow": 1}, "both"),
        ({}, "unknown"),
        ({"loclup": 0, "locrup": 0}, "unknown"),
    ],
)
def test_side_follows_the_locations(locations: dict[str, int], side: str, tmp_path: Path) -> None:
    row = {"pid": 1, "scr_days0": 5, "candx_days": 5, **locations}
    outcome = NlstParticipants(table(tmp_path / "prsn.csv", row)).outcome("1", 0)
    assert outcome.side == side
    # Found on the scan's own day.
    assert outcome.years_to_diagnosis == outcome.censoring_years == pytest.approx(1 / 365.25)


def test_the_table_of_the_imaging_data_commons_is_read(tmp_path: Path) -> None:
    columns = tuple(column.replace("fup_days", "canc_free_days") for column in COLUMNS)
    row = {"pid": 1, "scr_days2": 700, "canc_free_days": 700 + 731}
    path = table(tmp_path / "prsn.csv", row, columns=columns)
    assert NlstParticipants(path).outcome("1", 2).censoring_years == pytest.approx(731 / 365.25)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"pid": 1}, {"pid": 1}], "row 3: a participant must have one row, got 1 also in row 2"),
        ([{"pid": 1, "scr_days0": 9, "fup_days": 9}], "row 2: the follow-up must end after"),
        ([{"pid": 1, "scr_days0": 9}], "got scr_days0 9 and an end at no day"),
        ([{"pid": 1, "fup_days": 9}], "row 2: scr_days0 must be given, got an empty cell"),
    ],
)
def test_a_wrong_table_is_named(
    rows: list[dict[str, object]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        NlstParticipants(table(tmp_path / "prsn.csv", *rows)).outcome("1", 0)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("{", "must be {series: {slice: .box.}} in JSON"),
        ('{"1": [2]}', "must be {series: {slice: .box.}} in JSON"),
        ('{"1": {"1.1": [{"x": 0.1}]}}', "a box must have x, y, width, height, got .* slice 1.1"),
        ('{"1": {"1.1": [{"x": 0.9, "y": 0, "width": 0.2, "height": 1}]}}', "must lie in its"),
        ('{"1": {"1.1": [{"x": 0.9, "y": 0, "width": 0, "height": 1}]}}', "must have an area"),
    ],
)
def test_wrong_boxes_are_named(boxes: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(boxes)
    with pytest.raises(ValueError, match=message):
        read_nlst_boxes(path)
