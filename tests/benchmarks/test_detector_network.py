from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import detector_network, process_cost, report
from benchmarks.detector_network import forward_s, size, step_s
from benchmarks.process_cost import OURS, PEER, Cost

TINY = (32, 32, 16)


def test_sizes_are_those_published_and_those_wanted() -> None:
    ours, peer = size(OURS), size(PEER)
    assert peer.parameters == pytest.approx(20.9e6, rel=0.005)
    assert peer.gflop_per_mvoxel == pytest.approx(1208, rel=0.005)
    assert ours.gflop_per_mvoxel <= 100


def test_what_is_counted_grows_with_the_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    once = size(OURS)
    monkeypatch.setattr(detector_network, "_COUNTED_SHAPE", (64, 32, 32))
    assert size(OURS) == pytest.approx(once)


@pytest.mark.parametrize("which", [OURS, PEER])
@pytest.mark.parametrize("measurement", [forward_s, step_s])
def test_a_forward_pass_and_a_step_of_both(
    measurement: Callable[[str, tuple[int, ...]], float], which: str
) -> None:
    assert measurement(which, TINY) > 0


@pytest.mark.parametrize("which", [OURS, PEER])
def test_the_loss_reaches_every_weight(which: str) -> None:
    torch.manual_seed(0)
    network, loss, _ = detector_network.trained_network(which, TINY)
    assert network.training
    loss(torch.rand(1, 1, *TINY)).backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


def test_the_report_has_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fresh(call: object, measurement: object, which: str, shape: tuple[int, ...]) -> Cost:
        assert call is process_cost.cost
        asked.append((measurement, which, shape))
        return Cost(2, 1) if which == OURS else Cost(30, 4)

    monkeypatch.setattr(process_cost, "in_fresh_process", fresh)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["detector_network", "--rounds", "2", "1"])
    detector_network.main()
    assert asked == [
        (measurement, which, shape)
        for measurement, shape in ((forward_s, (256, 256, 96)), (step_s, (96, 96, 48)))
        for which in (OURS, PEER, OURS)
    ]
    rows = json.loads((tmp_path / "detector_network.json").read_text())["rows"]
    assert {row["what"]: row["ratio"] for row in rows[2:]} == {
        "forward, 256 x 256 x 96": 15,
        "forward, 256 x 256 x 96: peak memory": 4,
        "training step, 96 x 96 x 48": 15,
        "training step, 96 x 96 x 48: peak memory": 4,
    }
    assert [row["what"] for row in rows[:2]] == ["network", "parameters"]
    assert rows[0]["ratio"] > 12
