from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.froc import froc_report, main
from metrics.luna16_csv import read_findings, read_series

_FINDINGS = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
_MARKS = "seriesuid,coordX,coordY,coordZ,probability\n"
_TABLES = {
    "annotations": _FINDINGS + "a,0,0,0,8\na,50,0,0,8\nb,0,0,0,8\n",
    "excluded": _FINDINGS + "b,90,0,0,-1\n",
    "seriesuids": "a\nb\n",
    "submission": _MARKS + "a,1,0,0,0.9\na,2,0,0,0.8\na,-70,0,0,0.7\nb,91,0,0,0.6\nb,1,0,0,0.5\n",
}


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Two scans, three nodules: two found, one of them twice, one missed; one false mark."""
    for name, text in _TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return {name: tmp_path / f"{name}.csv" for name in _TABLES}


def _arguments(tables: dict[str, Path]) -> list[str]:
    return [part for name, path in tables.items() for part in (f"--{name}", str(path))]


def test_the_command_prints_sensitivities_counts_and_the_score(
    tables: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(tables)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 scans, 3 nodules"
    # 1 of 3 up to half a false positive per scan, 2 of 3 from there on.
    assert lines[1].startswith("sensitivity at 0.125 false positives per scan: 0.333333 [")
    assert lines[7].startswith("sensitivity at 8 false positives per scan: 0.666667 [")
    assert "true 2, false 1, missed 1, ignored 1, double 1" in lines
    assert re.fullmatch(r"CPM \d\.\d{6} \[\d\.\d{6}, \d\.\d{6}\]", lines[-1])
    assert lines[-1].startswith(f"CPM {4 / 7:.6f} [")


def test_another_submission_is_compared_on_the_same_draws(tables: dict[str, Path]) -> None:
    alone = froc_report(**tables)
    same = froc_report(**tables, compare=tables["submission"])
    assert "CPM less that of submission.csv, paired: +0.000000 [+0.000000, +0.000000]" in same
    assert same[-1] == alone[-1]
    blind = tables["submission"].with_name("blind.csv")
    blind.write_text(_MARKS + "a,999,0,0,0.9\n")
    worse = froc_report(**tables, compare=blind)
    assert "CPM of blind.csv: 0.000000" in worse
    assert any(line.startswith("CPM less that of blind.csv, paired: +0.5") for line in worse)


def test_a_submission_without_a_mark_finds_nothing(
    tables: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tables["submission"].write_text(_MARKS)
    assert main(_arguments(tables)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "true 0, false 0, missed 3, ignored 0, double 0" in lines
    assert lines[-1] == "CPM 0.000000 [0.000000, 0.000000]"


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("submission", "", r"submission.csv must have the columns seriesuid.*row 1"),
        ("submission", "seriesuid,coordX,coordY,coordZ\n", r"probability is missing from"),
        ("submission", _MARKS + "\nz,1,2,3,0.5\n", r"series of the list, got 'z' in row 3"),
        ("submission", _MARKS + "a,1,two,3,0.5\n", r"number as coordY, got 'two' in row 2"),
        ("submission", _MARKS + "a,1,2,3,nan\n", r"number as probability, got 'nan' in row 2"),
        ("submission", _MARKS + "a,1,2,3\n", r"5 values in each row, got 4 in row 2"),
        ("annotations", _FINDINGS, r"annotations.csv must have a nodule in the listed series"),
        ("annotations", _FINDINGS + "a,1,2,inf,5\n", r"number as coordZ, got 'inf' in row 2"),
        ("excluded", "seriesuid,x,diameter_mm\n", r"coordX, coordY, coordZ are missing"),
        ("seriesuids", "\n", r"seriesuids.csv must list at least one series, got none"),
        ("seriesuids", "a\nb\na\n", r"each series once, got a in rows 1 and 3"),
    ],
)
def test_a_table_that_breaks_a_rule_ends_the_command_with_one_sentence(
    tables: dict[str, Path], capsys: pytest.CaptureFixture[str], name: str, text: str, rule: str
) -> None:
    tables[name].write_text(text)
    assert main(_arguments(tables)) == 1
    error = capsys.readouterr().err
    assert re.search(rule, error)
    assert error.count("\n") == 1


def test_a_missing_or_binary_table_ends_the_command_with_one_sentence(
    tables: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tables["submission"].write_bytes(b"\x89PNG\xff\xfe\x00")
    assert main(_arguments(tables)) == 1
    assert re.fullmatch(r".*submission.csv must be a CSV table.*\n", capsys.readouterr().err)
    tables["excluded"].unlink()
    assert main(_arguments(tables)) == 1
    assert re.fullmatch(r".*excluded.csv must be a readable file: .*\n", capsys.readouterr().err)


def test_findings_of_other_series_are_left_out_and_columns_go_by_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "diameter_mm, coordZ,coordY,coordX,reader,seriesuid\n4,3,2,1,x,b\n5,0,0,0,y,elsewhere\n"
    )
    findings = read_findings(path, ["a", "b"])
    assert findings.scan.tolist() == [1]
    assert findings.centre_mm.tolist() == [[1.0, 2.0, 3.0]]
    assert findings.value.tolist() == [4.0]


def test_a_list_of_series_may_have_a_header_a_mark_of_its_encoding_and_blank_rows(
    tmp_path: Path,
) -> None:
    path = tmp_path / "series.csv"
    path.write_text("\ufeffseriesuid\r\na\r\n\r\nb\r\n", encoding="utf-8")
    assert read_series(path) == ["a", "b"]
