from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from handlers import TrainedWeights
from handlers.trained_weights import load_trained_weights


def test_weights_alone_and_whole_checkpoints_load(tmp_path: Path) -> None:
    source = nn.Linear(3, 2)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    torch.save({"network": source.state_dict(), "trainer": {}}, tmp_path / "last.pt")
    for name in ("model.pt", "last.pt"):
        network = nn.Linear(3, 2)
        engine = Engine(lambda engine, batch: None)
        TrainedWeights(str(tmp_path / name), network).attach(engine)
        engine.run([torch.ones(1, 3)])
        torch.testing.assert_close(network.weight, source.weight)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"existing file, got .*nowhere\.pt"):
        load_trained_weights(str(tmp_path / "nowhere.pt"), nn.Linear(3, 2))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(30, 20).state_dict(), tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"readable weights, got .*model\.pt"):
        load_trained_weights(str(tmp_path / "model.pt"), nn.Linear(30, 20))


def test_another_architecture_is_told_in_one_sentence(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="network in the config") as caught:
        load_trained_weights(str(tmp_path / "model.pt"), nn.Linear(4, 2))
    assert "weight of shape (2, 3) for (2, 4)" in str(caught.value)
    with pytest.raises(ValueError, match=r"4 of 2 tensors differ, the first 0\.bias"):
        load_trained_weights(str(tmp_path / "model.pt"), nn.Sequential(nn.Linear(3, 2)))
