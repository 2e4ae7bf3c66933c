from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import process_cost, report, training_memory
from benchmarks.process_cost import OURS, PEER, Cost
from benchmarks.training_memory import step_s, trained_network

TINY = (16, 20, 9)


def test_the_overlay_alone_tells_both_apart_and_both_take_the_same_step() -> None:
    image = torch.rand(1, 1, *TINY)
    gradients = []
    for which in (OURS, PEER):
        torch.manual_seed(0)
        trained = trained_network(which, TINY)
        encoder = trained.network.get_submodule("encoder")
        assert encoder.gradient_checkpointing == (which == OURS)
        trained.loss(image).backward()
        gradients.append([weight.grad for weight in trained.network.parameters()])
    torch.testing.assert_close(*gradients)
    assert step_s(OURS, TINY) > 0


def test_the_table_has_every_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def fresh(_call: object, _measurement: object, which: str, shape: tuple[int, ...]) -> Cost:
        measured.append((which, shape))
        return Cost(wall_s=3.0, peak_gib=1.0) if which == OURS else Cost(2.0, 4.0)

    monkeypatch.setattr(process_cost, "in_fresh_process", fresh)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["training_memory", "--sizes", "2", "--rounds", "1"])
    training_memory.main()
    assert measured == [(w, shape) for shape in training_memory.SHAPES[:2] for w in (OURS, PEER)]
    rows = json.loads((tmp_path / "training_memory.json").read_text())["rows"]
    assert [(row["what"], row["ours"], row["peer"]) for row in rows[:2]] == [
        ("training step, 128x128x64", 3.0, 2.0),
        ("training step, 128x128x64: peak memory", 1.0, 4.0),
    ]
    assert len(rows) == 4
