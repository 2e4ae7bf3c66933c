from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cohorts.convert_scans import LeftOut, ScanJob, convert_scans, scan_file_name
from cohorts.datalist import Item


@dataclass(frozen=True)
class NumberJob(ScanJob):
    """Stands for a scan: a number to be written."""

    number: int


def convert(job: NumberJob, folder: Path) -> Item:
    if job.number == 13:
        raise ValueError("13 brings no luck")
    if job.number == 14:
        raise LeftOut("14 is no scan")
    if job.number == 15:
        raise KeyError("fifteen")
    if job.number == 28:
        raise OSError(errno.ENOSPC, "No space left on device")
    image = f"images/{job.name}.txt"
    with (folder / image).open("a") as stream:
        stream.write(f"{job.number}\n")
    return {"patient_id": job.name, "image": image}


def jobs(source: Path, *numbers: int) -> list[NumberJob]:
    return [NumberJob(f"n{number}", (source,), number) for number in numbers]


def written(folder: Path) -> dict[str, int]:
    """How many times each scan was converted."""
    return {path.stem: len(path.read_text().split()) for path in (folder / "images").iterdir()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "1.dcm").write_text("slice")
    return tmp_path / "source"


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_scan_costs_only_itself(workers: int, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = convert_scans(jobs(source, 1, 13, 2, 14, 15), convert, out, version=1, workers=workers)
    assert [item["patient_id"] for item in done.items] == ["n1", "n2"]
    assert done.failures == (f"{source}: 13 brings no luck", f"{source}: KeyError: 'fifteen'")
    assert done.left_out == ("14 is no scan",)


def test_a_run_repeated_goes_on(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_scans(jobs(source, 1, 2), convert, out, version=1)
    done = convert_scans(jobs(source, 1, 2, 3), convert, out, version=1)
    assert len(done.items) == 3
    assert written(out) == {"n1": 1, "n2": 1, "n3": 1}
    # A lost file and a damaged record are made anew.
    (out / "images" / "n1.txt").unlink()
    (out / "items" / "n2.json").write_text('{"fingerprint": ')
    convert_scans(jobs(source, 1, 2, 3), convert, out, version=1)
    assert written(out) == {"n1": 1, "n2": 2, "n3": 1}


def test_another_source_or_version_makes_scans_anew(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_scans(jobs(source, 1), convert, out, version=1)
    (source / "2.dcm").write_text("a slice that came late")
    convert_scans(jobs(source, 1), convert, out, version=1)
    assert written(out) == {"n1": 2}
    convert_scans(jobs(source, 1), convert, out, version=2)
    assert written(out) == {"n1": 3}
    assert json.loads((out / "items" / "n1.json").read_text())["item"]["patient_id"] == "n1"


def test_a_full_disk_stops_the_run(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        convert_scans(jobs(source, 1, 28, 2), convert, tmp_path / "out", version=1)
    assert written(tmp_path / "out") == {"n1": 1}


def test_scans_of_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a scan must be there once, got n1 here and in"):
        convert_scans(jobs(source, 1, 1), convert, tmp_path / "out", version=1)


def test_file_names_are_safe_and_tell_series_apart() -> None:
    first, second = scan_file_name("A/B 1^x", "1.2.3"), scan_file_name("A/B 1^x", "1.2.4")
    assert first.startswith("A_B_1_x-")
    assert first != second
    assert scan_file_name("..", "1").startswith("patient-")
