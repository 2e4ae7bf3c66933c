from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigParser

from benchmarks import nodule_cubes
from benchmarks.nodule_cubes import cube_record, dice_summary, fold_runs, nodule_rows, print_record
from bundles.bundle_config import config_files, merged_config
from cohorts.lidc_agreement import ReaderAgreement
from cohorts.nodule_cubes import CUBE_RATINGS
from cohorts.nodule_cubes import main as write_cubes

COUNT, SIDE = 15, 17


@pytest.fixture
def cubes(tmp_path):
    """Balls of 40 HU in lung, as wide as their masks, and a wall beyond every third."""
    image = np.full((COUNT, SIDE, SIDE, SIDE), 0.2, np.float16)
    mask = np.zeros(image.shape, np.uint8)
    off = ((np.indices(image.shape[1:]) - SIDE // 2) ** 2).sum(axis=0)
    for cube in range(COUNT):
        mask[cube] = off <= (2 + cube % 3) ** 2
        image[cube][mask[cube] > 0] = 0.775
    image[::3, -2:] = 0.775
    ratings: dict[str, Any] = {key: np.ones(COUNT) for key in CUBE_RATINGS}
    names = np.array([f"{number}_nod1_ann0" for number in range(COUNT)])
    path = tmp_path / "cubes.npz"
    np.savez(path, image=image, mask=mask, name=names, **ratings)
    assert write_cubes(["--input", str(path), "--output", str(tmp_path / "cubes")]) == 0
    return tmp_path / "cubes"


def _evaluate(run, dice_of):
    """The evaluation's table of a fold."""
    folder = run.folder / "evaluation"
    folder.mkdir(parents=True)
    testing = json.loads(run.datalist.read_text())["testing"]
    with (folder / "nodules.csv").open("w", newline="") as file:
        rows = [(item["patient_id"], dice_of(item["patient_id"])) for item in testing]
        csv.writer(file).writerows([("patient_id", "dice"), *rows])


def _dice(patient_id):
    return int(patient_id.removeprefix("cubes-")) / 20


def test_every_nodule_is_judged_by_its_own_fold(cubes, tmp_path, monkeypatch, capsys):
    agreement = ReaderAgreement([f"p{n}" for n in range(12)], *(np.full(12, 0.4),) * 3)
    monkeypatch.setattr(nodule_cubes, "read_lidc_nodules", list)
    monkeypatch.setattr(nodule_cubes, "reader_agreement", lambda nodules: agreement)
    runs = fold_runs(cubes, tmp_path / "runs", range(5), {})
    for run in runs:
        _evaluate(run, _dice)
    readers = {f"{n}_nod1_ann0": (f"LIDC-{n}", None if n < 3 else 0.5) for n in range(COUNT)}
    record = cube_record(runs, readers)
    rows = {row["patient_id"]: row for row in record["nodules"]}
    assert len(rows) == len(record["nodules"]) == COUNT
    for patient, row in rows.items():
        fold = json.loads((cubes / f"{row['fold']}.json").read_text())
        assert patient in {item["patient_id"] for item in fold["testing"]}
        assert row["network_dice"] == _dice(patient)
        assert row["threshold_dice"] == 1  # a ball is what it finds
        assert row["lidc_patient_id"] == f"LIDC-{int(patient[-3:])}"
    everything = record["dice"]["all nodules"]
    assert set(everything) == {"network", "threshold"}
    network = everything["network"]
    assert network["mean"] == pytest.approx(sum(range(COUNT)) / 20 / COUNT)
    assert network["median"] == pytest.approx(7 / 20)
    assert network["above_bar"] == pytest.approx(6 / COUNT)  # 9 to 14, over 0.4
    assert network["low"] < network["mean"] < network["high"]
    same = record["dice"]["nodules with other readers"]
    assert [same[name]["nodules"] for name in ("network", "threshold", "readers")] == [12] * 3
    assert same["network"]["mean"] == pytest.approx(sum(range(3, COUNT)) / 20 / 12)
    print_record(record)
    printed = capsys.readouterr().out
    assert "network    0.350" in printed
    assert "reader bar: pairwise Dice 0.400" in printed


def test_without_the_readers_there_is_no_row_of_them(cubes, tmp_path, monkeypatch):
    agreement = ReaderAgreement([f"p{n}" for n in range(12)], *(np.full(12, 0.4),) * 3)
    monkeypatch.setattr(nodule_cubes, "read_lidc_nodules", list)
    monkeypatch.setattr(nodule_cubes, "reader_agreement", lambda nodules: agreement)
    runs = fold_runs(cubes, tmp_path / "runs", range(5), {})
    for run in runs:
        _evaluate(run, _dice)
    assert set(cube_record(runs, {})["dice"]) == {"all nodules"}


def test_an_evaluation_of_other_nodules_is_refused(cubes, tmp_path):
    (run,) = fold_runs(cubes, tmp_path / "runs", [2], {})
    _evaluate(run, _dice)
    path = run.folder / "evaluation" / "nodules.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match="must hold the datalist's 3 nodules in their order"):
        nodule_rows(run, {})


def test_an_empty_column_has_no_numbers():
    assert dice_summary([{"reader_dice": None}], "reader_dice", 0.7) == {"nodules": 0}


def test_what_is_there_is_not_trained_over(cubes, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs" / "fold1").mkdir(parents=True)
    arguments = ["--cubes", str(cubes), "--output", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["nodule_cubes", *arguments])
    with pytest.raises(SystemExit):
        nodule_cubes.main()
    assert "--output must be new without --resume" in capsys.readouterr().err


def test_the_overlay_fits_the_network_and_the_cubes():
    config = merged_config(config_files(nodule_cubes.BUNDLE, "train", [nodule_cubes.OVERLAY]))
    network = ConfigParser(config).get_parsed_content("network_def")
    assert list(network.total_stride) == config["tile_stride"]
    for patch, tile, stride in zip(
        config["patch_shape"], config["tile_shape"], config["tile_stride"], strict=True
    ):
        assert patch % stride == tile % stride == 0
        assert patch <= 51 <= tile
    assert config["crop_margin_mm"] is None
