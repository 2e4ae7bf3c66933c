from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.beside_readers import beside_readers
from benchmarks.reader_agreement import agreement_rows, main
from cohorts.lidc_agreement import ReaderAgreement
from metrics.nodule_size import SIZE_CLASSES

_COLUMNS = "patient_id,size_class,found,dice,volume_error_percent"
# Three nodules, two of them found.
_ROWS = (
    "a,under_6_mm,yes,0.8,-20.0",
    "a,8_to_10_mm,yes,0.9,10.0",
    "b,under_6_mm,no,0.1,",
)


def _record(path):
    """Written by the benchmark's own rows: readers who agree by 0.75, whatever the size."""
    patients = [f"p{number}" for number in range(10)]
    agreement = ReaderAgreement(patients, *(np.full(10, value) for value in (5.0, 0.75, 0.2)))
    rows = [
        row
        for convention in ("outline outside", "outline inside")
        for size in ("all sizes", *SIZE_CLASSES)
        for row in agreement_rows(f"{convention}, {size}", agreement)
    ]
    report = {
        "command": "python -m benchmarks.reader_agreement",
        "date": "2026-01-02T03:04:05+00:00",
        "rows": [{"what": row.what, "ours": row.ours} for row in rows],
    }
    path.write_text(json.dumps(report))
    return path


def _nodules(path, rows=_ROWS):
    path.write_text("\n".join([_COLUMNS, *rows]) + "\n")
    return path


def test_the_table_by_hand(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"datalist": "demo", "synthetic": true}')
    nodules = _nodules(tmp_path / "nodules.csv")
    lines = beside_readers(nodules, _record(tmp_path / "readers.json"))
    readers = "0.750 [0.750, 0.750]  20.0 %"
    cells = [" ".join(line.split()) for line in lines]
    both = " ".join(f"{readers} {readers}".split())
    assert cells[1] == f"all sizes 3 2 0.600 15.0 % {both}"
    assert cells[2] == f"under 6 mm 2 1 0.450 20.0 % {both}"
    assert cells[3] == f"6 to 8 mm 0 0 {both}"
    assert cells[4] == f"8 to 10 mm 1 1 0.900 10.0 % {both}"
    assert len(lines[1 : 2 + len(SIZE_CLASSES)]) == 6
    assert "demo (synthetic phantoms)" in lines[7]
    assert "readers.json of 2026-01-02 by `python -m benchmarks.reader_agreement`" in lines[8]


def test_ten_patients_give_an_interval(tmp_path):
    rows = [f"p{n},under_6_mm,yes,{0.05 * n},0.0" for n in range(10)]
    nodules = _nodules(tmp_path / "nodules.csv", rows)
    line = beside_readers(nodules, _record(tmp_path / "readers.json"))[1]
    low, high = line.split("[")[1].split("]")[0].split(", ")
    assert 0 < float(low) < 0.225 < float(high) < 0.45


def test_no_nodule(tmp_path):
    lines = beside_readers(_nodules(tmp_path / "n.csv", []), _record(tmp_path / "readers.json"))
    assert lines[1].split()[:4] == ["all", "sizes", "0", "0"]


def test_the_command_reads_the_stored_record(tmp_path, capsys):
    main(["--beside", str(_nodules(tmp_path / "nodules.csv"))])
    lines = capsys.readouterr().out.splitlines()
    assert "0.774" in lines[1] or "0.773" in lines[1]
    assert "0.722" in lines[2]
    with pytest.raises(SystemExit):
        main(["--beside", str(tmp_path / "none.csv")])
    assert "none.csv must be the nodules.csv of an evaluation" in capsys.readouterr().err


def test_what_is_refused(tmp_path):
    nodules = _nodules(tmp_path / "nodules.csv")
    with pytest.raises(ValueError, match="must be written first by"):
        beside_readers(nodules, tmp_path / "none.json")
    (tmp_path / "other.csv").write_text("patient_id\n")
    with pytest.raises(ValueError, match="must have the column dice"):
        beside_readers(tmp_path / "other.csv", _record(tmp_path / "readers.json"))
    (tmp_path / "bare.json").write_text('{"command": "", "date": "", "rows": []}')
    with pytest.raises(ValueError, match="record must hold 'outline outside, all sizes"):
        beside_readers(nodules, tmp_path / "bare.json")
