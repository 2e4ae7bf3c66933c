"""A collection converted by four shards at once, one of them killed, and by one run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cohorts import dicom_study, merge_shards
from cohorts.dicom_study import StudyJob, convert_study
from cohorts.shard import Shard
from cohorts.shard_records import shard_path

STUDIES = 11


@pytest.fixture
def studies(tmp_path: Path, write_dicom: Callable[..., list[str]]) -> Path:
    """Studies of their own content; one lacks a slice, one has no axial series."""
    root = tmp_path / "studies"
    for number in range(STUDIES):
        hu = np.full((16, 12, 12), number, np.int16)
        header: dict[str, Any] = {"PatientID": f"P{number // 2}", "StudyInstanceUID": f"9.{number}"}
        if number == 3:
            header["ImageOrientationPatient"] = [0, 1, 0, 0, 0, -1]
        write_dicom(root / f"{number:02}", f"1.{number}", hu, **header)
    (root / "05" / "1-95.dcm").unlink()
    return root


def command(studies: Path, output: Path, *options: str) -> list[str]:
    return ["--input", str(studies), "--output", str(output), "--workers", "1", *options]


def convert(arguments: list[str], dies_at: int | None = None) -> None:
    """To be called in a process of its own, which is killed while it writes that scan."""
    written = []

    def dying(job: StudyJob, folder: Path) -> dict:
        written.append(job.name)
        if len(written) == dies_at:
            (folder / "images" / f".partial-{job.name}.nii.gz").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return convert_study(job, folder)

    dicom_study.convert_study = dying
    sys.exit(dicom_study.main(arguments))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but what the shards left of themselves."""
    files = [path for path in folder.rglob("*") if path.is_file() and "shards" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_four_shards_at_once_equal_one_run(
    studies: Path,
    tmp_path: Path,
    at_once: Callable[..., list[int | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    assert dicom_study.main(command(studies, one)) == 1
    said = capsys.readouterr()
    calls = [command(studies, four, "--shard", f"{index}/4") for index in range(4)]
    # A study that lacks a slice is in shard 0, and another has no series for any.
    assert at_once(convert, [(calls[0],), (calls[1],), (calls[2], 2), (calls[3],)]) == [
        1,
        0,
        -signal.SIGKILL,
        0,
    ]
    assert merge_shards.main([str(four)]) == 1
    assert "every shard must have been done to its end, got none of 2/4" in capsys.readouterr().err
    assert not (four / "datalist.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (four / "images").glob("[!.]*")}
    assert dicom_study.main(calls[2]) == 0
    # What was done before the kill, by this shard or others, is not done again.
    assert kept.items() <= {p: p.stat().st_mtime_ns for p in (four / "images").iterdir()}.items()
    capsys.readouterr()
    assert merge_shards.main([str(four)]) == 1
    merged = capsys.readouterr()
    assert merged.out.replace(str(four), "") == said.out.replace(str(one), "")
    assert "slices must be evenly spaced" in merged.err
    assert said.err.endswith(merged.err)
    assert contents(four) == contents(one)


def test_workers_change_nothing(studies: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    dicom_study.main(command(studies, one))
    dicom_study.main(command(studies, two, "--workers", "2"))
    assert contents(one) == contents(two)


@pytest.fixture
def converted(studies: Path, tmp_path: Path) -> Path:
    for index in range(2):
        dicom_study.main(command(studies, tmp_path / "out", "--shard", f"{index}/2"))
    return tmp_path / "out"


@pytest.mark.parametrize("change", ["image", "item", "other"])
def test_a_stale_shard_is_named(
    change: str, converted: Path, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = Shard(1, 2)
    first = json.loads(shard_path(converted, shard).read_text())["outcomes"][0]["name"]
    if change == "image":
        (converted / "images" / f"{first}.nii.gz").unlink()
    elif change == "item":  # as after a conversion of another version of the source
        path = converted / "items" / f"{first}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "x"}))
    else:  # a study came in before the second shard was done again
        shutil.rmtree(studies / "07")
        dicom_study.main(command(studies, converted, "--shard", "0/2"))
    capsys.readouterr()
    assert merge_shards.main([str(converted)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if change == "other":
        assert "got 1/2 of another than 0/2, the newest; do them again" in error
    else:
        assert f"those of {first} changed or lost since; do shard 1/2 again" in error
    assert not (converted / "datalist.json").exists()
    # What the sentence says heals it.
    dicom_study.main(command(studies, converted, "--shard", "1/2"))
    assert (
        "datalist.json: training"
        in (merge_shards.main([str(converted)]), capsys.readouterr())[1].out
    )


def test_a_wrong_shard_is_one_sentence(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dicom_study.main(command(studies, tmp_path / "out", "--shard", "4/4")) == 1
    assert "error: shard must be i/n, counted from 0: i from 0 to n - 1, got 4/4" in (
        capsys.readouterr().err
    )


def test_the_whole_takes_the_place_of_shards(converted: Path, studies: Path) -> None:
    dicom_study.main(command(studies, converted))
    assert (converted / "datalist.json").is_file()
    assert not list((converted / "shards").glob("*.json"))
