from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import box_decoding, report
from benchmarks.box_decoding import check_equal, ours, peer, random_scan

SMALL = (250, 180, 110)  # the strides do not divide it


def test_both_keep_the_same_boxes() -> None:
    scan = random_scan(SMALL, 12)
    mine, others = ours(scan), peer(scan, SMALL)
    assert 30 < check_equal(mine, others) < scan.marks
    boxes, scores = mine
    assert (boxes[:, :3] >= 0).all() and (boxes[:, 3:] <= torch.tensor(SMALL)).all()
    assert (scores.diff() < 0).all()
    assert [tuple(level.shape) for level in scan.ours["logits"]] == [
        (1, 1, 63, 45, 55),
        (1, 1, 32, 23, 28),
        (1, 1, 16, 12, 14),
    ]
    for logits, codes, anchors, level in zip(
        scan.peer_logits, scan.peer_codes, scan.peer_anchors, scan.ours["logits"], strict=True
    ):
        assert len(logits) == len(codes) == len(anchors) == 3 * level.numel()


def test_another_result_is_refused() -> None:
    scan = random_scan(SMALL, 12)
    boxes, scores = ours(scan)
    with pytest.raises(RuntimeError, match=r"as many boxes, got \d+ and \d+"):
        check_equal((boxes[1:], scores[1:]), (boxes, scores))
    with pytest.raises(RuntimeError, match="got others"):
        check_equal((boxes + 0.1, scores), (boxes, scores))
    with pytest.raises(RuntimeError, match="got others"):
        check_equal((boxes, scores.flip(0)), (boxes, scores))


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(box_decoding, "SCAN_SHAPE", SMALL)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["box_decoding", "--rounds", "1"])
    try:
        box_decoding.main()
    finally:
        torch.set_num_threads(threads)
    written = json.loads((tmp_path / "box_decoding.json").read_text())
    [row] = written["rows"]
    assert row["what"] == "top-k, decode, NMS, 250 x 180 x 110"
    assert row["ours"] > 0 and row["peer"] > 0
    assert "that both keep the same" in written["notes"][-1]


def test_no_round_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["box_decoding", "--rounds", "0"])
    with pytest.raises(SystemExit):
        box_decoding.main()
    assert "--rounds must be 1 or more, got 0" in capsys.readouterr().err
