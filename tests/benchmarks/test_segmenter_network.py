from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import plain_conv_unet, process_cost, report, segmenter_network
from benchmarks.process_cost import OURS, PEER, Cost
from benchmarks.segmenter_network import PATCH_SHAPE, Size, forward_s, size, step_s

# Instance norms want two cells or more on the peer's coarsest level.
TINY = (64, 32, 32)


@pytest.fixture
def peer() -> None:
    pytest.importorskip(
        "dynamic_network_architectures", reason=f"by hand: {plain_conv_unet._INSTALL}"
    )


def test_a_patch_of_ours_is_within_its_budget() -> None:
    assert size(OURS, PATCH_SHAPE).gflop <= 50


@pytest.mark.usefixtures("peer")
def test_the_peer_is_the_one_that_was_asked_for() -> None:
    found = size(PEER, PATCH_SHAPE)
    assert found.gflop == pytest.approx(403, rel=0.005)
    assert found.parameters == pytest.approx(31.2e6, rel=0.01)


def test_what_is_counted_grows_with_the_voxels() -> None:
    once, twice = size(OURS, (32, 32, 32)), size(OURS, (64, 32, 32))
    assert twice == pytest.approx((once.parameters, 2 * once.gflop))


@pytest.mark.parametrize("measurement", [forward_s, step_s])
def test_a_forward_pass_and_a_step_of_ours(measurement: Callable) -> None:
    assert measurement(OURS, (32, 32, 16)) > 0


@pytest.mark.usefixtures("peer")
def test_a_step_of_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter_network, "BATCH_SIZE", 1)
    assert step_s(PEER, TINY) > 0


def test_the_loss_reaches_every_weight() -> None:
    torch.manual_seed(0)
    network, loss, _ = segmenter_network.trained_network(OURS, (32, 32, 16))
    assert network.training
    loss(torch.rand(2, 1, 32, 32, 16)).backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


def test_where_the_peer_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    with pytest.raises(ImportError, match="to be had by: pip install --no-deps dynamic-network"):
        size(PEER, TINY)


def test_the_report_has_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fresh(call: object, measurement: object, which: str, shape: tuple[int, ...]) -> Cost:
        assert call is process_cost.cost
        asked.append((measurement, which, shape))
        return Cost(2, 1) if which == OURS else Cost(30, 4)

    monkeypatch.setattr(process_cost, "in_fresh_process", fresh)
    monkeypatch.setattr(
        segmenter_network, "size", lambda which, _shape: Size(2, 40 if which == OURS else 400)
    )
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["segmenter_network", "--rounds", "2", "1"])
    segmenter_network.main()
    assert asked == [
        (measurement, which, (96, 96, 96))
        for measurement in (forward_s, step_s)
        for which in (OURS, PEER, OURS)
    ]
    rows = json.loads((tmp_path / "segmenter_network.json").read_text())["rows"]
    assert {row["what"]: row["ratio"] for row in rows} == {
        "network, 96 x 96 x 96": 10,
        "parameters": 1,
        "forward, 96 x 96 x 96": 15,
        "forward, 96 x 96 x 96: peak memory": 4,
        "training step, 96 x 96 x 96": 15,
        "training step, 96 x 96 x 96: peak memory": 4,
    }
