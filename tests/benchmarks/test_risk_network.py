from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from mmap import mmap
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import process_cost, report, risk_network
from benchmarks.fresh_process import PEAK, RESIDENT, in_fresh_process, memory_gib
from benchmarks.process_cost import OURS, PEER, Cost
from benchmarks.r3d_18 import R3d18
from benchmarks.risk_network import Size, inference_s, size, step_s

TINY = (16, 20, 9)


@pytest.fixture(scope="module")
def encoder() -> R3d18:
    return R3d18().to("meta")


def test_the_peer_has_the_parameters_of_r3d_18(encoder: R3d18) -> None:
    # By hand: convolutions without bias, each with the two numbers per channel of its batch norm.
    widths, count = [64, 64, 128, 256, 512], 3 * 64 * 3 * 7 * 7 + 2 * 64
    for before, width in pairwise(widths):
        count += 27 * (before * width + 3 * width * width) + 4 * 2 * width
        count += 0 if before == width else before * width + 2 * width
    # torchvision counts 33,371,472 with its last layer of 400 classes.
    assert count == 33_371_472 - (512 * 400 + 400) == 33_166_272
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


def test_the_peer_computes_as_much_as_published(encoder: R3d18) -> None:
    with FlopCounterMode(display=False) as counter:
        features = encoder(torch.empty(1, 1, 112, 112, 16, device="meta"))
    assert features.shape == (1, 512, 7, 7, 2)
    # torchvision gives 40.697 billion multiplications for 16 frames of 112x112.
    assert counter.get_total_flops() / 2e9 == pytest.approx(40.697, abs=0.001)


def test_the_peers_depth_is_the_scans_last_axis() -> None:
    """A change in the last slices alone moves the last features in D, and the first stay."""
    torch.manual_seed(0)
    encoder = R3d18().eval()
    scan = torch.rand(1, 1, 16, 16, 96)
    changed = scan.clone()
    changed[..., 80:] += 1
    with torch.inference_mode():
        moved = (encoder(changed) - encoder(scan)).abs().amax(dim=(0, 1, 2, 3))
    assert moved.shape == (12,)
    assert moved[0] == 0
    assert moved[-1] > 0


def test_sizes_at_the_measured_shape() -> None:
    ours, peer = size(OURS, (256, 256, 200)), size(PEER, (256, 256, 200))
    assert ours.feature_shape == (64, 64, 50)
    assert peer.feature_shape == (16, 16, 25)
    assert peer.encoder_parameters == 33_166_272
    # Batch norm, four heads, and a hidden layer of 32 on 4 x 512 pooled features.
    head = 2 * 512 + (512 * 4 + 4) + (4 * 512 * 32 + 32) + 33
    assert peer.parameters == 33_166_272 + head
    for one in (ours, peer):
        # Backward multiplies twice for each multiplication of forward, but for the scan itself.
        assert 2.9 < one.step_gflop / one.inference_gflop <= 3


@pytest.mark.parametrize("which", [OURS, PEER])
@pytest.mark.parametrize("measurement", [step_s, inference_s])
def test_a_step_and_an_inference_of_both(
    measurement: Callable[[str, tuple[int, ...]], float], which: str
) -> None:
    assert measurement(which, TINY) > 0


def test_a_step_changes_every_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    network, config = risk_network.network_and_config(OURS)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    monkeypatch.setattr(risk_network, "network_and_config", lambda *_: (network, config))
    monkeypatch.setattr(risk_network, "size", lambda *_: Size(0, 0, (4, 5, 3), 0, 0))
    step_s(OURS, TINY)
    weights = dict(network.named_parameters())
    assert not [name for name in before if torch.equal(before[name], weights[name])]


def test_memory_is_that_of_the_process_itself() -> None:
    start_gib = memory_gib(RESIDENT)
    with mmap(-1, 2**27) as held:
        held[::4096] = b"1" * 2**15
        assert memory_gib(RESIDENT) - start_gib == pytest.approx(0.125, abs=0.02)
    assert memory_gib(RESIDENT) - start_gib == pytest.approx(0, abs=0.02)
    assert memory_gib(PEAK) - start_gib > 0.1
    assert in_fresh_process(os.getpid) != os.getpid()
    # This process has torch in memory, which the new one neither needs nor counts.
    assert in_fresh_process(memory_gib, PEAK) < 0.15 < memory_gib(PEAK)
    with pytest.raises(ValueError, match="field must be one of /proc/self/status, got VmNone"):
        memory_gib("VmNone")


def test_the_report_has_medians_and_peaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {OURS: [Cost(3, 1), Cost(1, 2), Cost(2, 1)], PEER: [Cost(8, 6)]}
    order = []

    def fresh(call: object, measurement: object, which: str, shape: tuple[int, ...]) -> Cost:
        assert (call, shape) == (process_cost.cost, TINY)
        order.append(which)
        return costs[which][order.count(which) % len(costs[which])]

    monkeypatch.setattr(process_cost, "in_fresh_process", fresh)
    monkeypatch.setattr(risk_network, "SHAPE", TINY)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["risk_network"])
    risk_network.main()
    assert order == 2 * [OURS, PEER, OURS, OURS]
    written = json.loads((tmp_path / "risk_network.json").read_text())
    rows = {row["what"]: (row["ours"], row["peer"], row["ratio"]) for row in written["rows"]}
    assert list(rows) == [
        "training step",
        "training step: peak memory",
        "inference",
        "inference: peak memory",
        "parameters",
        "training step: arithmetic",
        "inference: arithmetic",
    ]
    assert rows["training step"] == rows["inference"] == (2, 8, 4)
    assert rows["training step: peak memory"] == (2, 6, 3)
    assert "medians of 3 processes for ours and 1 for the peer" in " ".join(written["notes"])
    assert "ours 4 x 5 x 3, peer 1 x 2 x 2" in written["notes"][0]


def test_no_round_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["risk_network", "--rounds", "3", "0"])
    with pytest.raises(SystemExit):
        risk_network.main()
    assert "--rounds must be 1 or more, got 3 and 0" in capsys.readouterr().err
