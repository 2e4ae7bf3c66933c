from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu_training
from benchmarks.gpu_training import CASES, MODES, Case, case_rows, inference, training_step
from benchmarks.process_cost import OURS
from benchmarks.trained_network import TrainedNetwork

SHAPES = {"lung_ct_cancer_risk": (32, 32, 16)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.bundle)
@pytest.mark.parametrize("mode", MODES[:2])
def test_a_step_changes_the_weights(case: Case, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = case._replace(shape=SHAPES.get(case.bundle, (64, 64, 16)))
    seen: list[TrainedNetwork] = []

    def trained(*arguments: object, **keywords: object) -> TrainedNetwork:
        seen.append(case.trained(*arguments, **keywords))
        return seen[-1]

    step = training_step(small._replace(trained=trained), mode, OURS, device="cpu")
    before = [weight.clone() for weight in seen[0].network.parameters()]
    step()
    changed = [
        not torch.equal(old, new)
        for old, new in zip(before, seen[0].network.parameters(), strict=True)
    ]
    assert all(changed)


def test_an_inference_leaves_them() -> None:
    case = CASES[2]._replace(shape=(32, 32, 16))
    inference(case, OURS, device="cpu")()


def test_a_mode_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="mode must be one of float32, AMP, AMP, compiled, got x"):
        training_step(CASES[0], "x", OURS)


def test_every_case_has_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ready(_case: Case, *what: str) -> tuple[str, ...]:
        asked.append(what)
        return what

    monkeypatch.setattr(gpu_training, "training_step", ready)
    monkeypatch.setattr(gpu_training, "inference", ready)
    monkeypatch.setattr(gpu_training, "host_syncs", lambda step: len(step))
    cost = {OURS: gpu_training.GpuCost(2, 1), "peer": gpu_training.GpuCost(6, 4)}
    monkeypatch.setattr(gpu_training, "measured", lambda what, _rounds: cost[what[-1]])
    rows = case_rows(CASES[0], rounds=1)
    assert [row.ratio for row in rows] == [3, 4] * 4 + [None]
    assert rows[-1].ours == 2
    assert asked[:2] == [("float32", OURS), ("float32", "peer")]


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_training"])
    with pytest.raises(SystemExit):
        gpu_training.main()
    assert "an NVIDIA GPU must be visible to torch, got none" in capsys.readouterr().err


def test_syncs_are_the_warnings_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    mode = ["default"]
    cuda = SimpleNamespace(
        synchronize=lambda: None,
        get_sync_debug_mode=lambda: mode[0],
        set_sync_debug_mode=lambda new: mode.__setitem__(0, new),
    )
    monkeypatch.setattr(gpu_training.torch, "cuda", cuda)

    def step() -> None:
        if mode[0] == "warn":
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    assert gpu_training.host_syncs(step) == 1
    assert mode == ["default"]
