from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

from handlers import GradientClipping

MAX_NORM = 0.05


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def _items(count: int) -> Any:
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    return [{"image": row, "label": 10 * row.sum(dim=0, keepdim=True)} for row in x]


def _trainer(
    network: nn.Module,
    *,
    max_norm: float = MAX_NORM,
    scaler: torch.amp.GradScaler | None = None,
    items: Any = None,
    **options: Any,
) -> SupervisedTrainer:
    # Plain SGD, whose step is as long as the gradient.
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(items or _items(6), batch_size=2),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        decollate=False,
        train_handlers=[GradientClipping(network, optimizer, max_norm)],
        amp=scaler is not None,
        **options,
    )

    @trainer.on(Events.STARTED)
    def scale(engine: SupervisedTrainer) -> None:
        # MONAI makes one that is off without CUDA.
        engine.scaler = scaler  # type: ignore[assignment]

    return trainer


def _by_hand(network: nn.Module, max_norm: float) -> list[float]:
    """Three steps; the norms before they were clipped."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    norms = []
    for batch in DataLoader(_items(6), batch_size=2):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(batch["image"]), batch["label"]).backward()
        norms.append(float(clip_grad_norm_(network.parameters(), max_norm)))
        optimizer.step()
    return norms


def _assert_same_weights(network: nn.Module, expected: nn.Module) -> None:
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])


@pytest.mark.filterwarnings("ignore:.*(CUDA|cuda|GradScaler)")
@pytest.mark.parametrize("amp", [False, True])
def test_steps_are_those_clipped_by_hand(amp: bool) -> None:
    network = _network()
    expected = copy.deepcopy(network)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16) if amp else None
    _trainer(network, scaler=scaler).run()
    assert min(_by_hand(expected, MAX_NORM)) > MAX_NORM
    _assert_same_weights(network, expected)


def test_short_gradients_stay() -> None:
    network = _network()
    expected = copy.deepcopy(network)
    _trainer(network, max_norm=1e6, items=_items(6)).run()
    _by_hand(expected, math.inf)
    _assert_same_weights(network, expected)


def test_a_norm_that_is_not_finite_ends_the_training_before_the_step() -> None:
    network = _network()
    items = _items(6)
    items[2]["label"] = torch.tensor([math.inf])  # in the second batch
    trainer = _trainer(network, items=items)
    seen: list[nn.Module] = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(copy.deepcopy(network)))
    with pytest.raises(ValueError, match=r"must be finite, got inf in iteration 2"):
        trainer.run()
    _assert_same_weights(network, seen[1])
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values())


@pytest.mark.filterwarnings("ignore:.*(CUDA|cuda|GradScaler)")
def test_the_scaler_skips_a_step_that_is_not_finite_and_the_training_goes_on() -> None:
    network, items = _network(), _items(6)
    items[2]["label"] = torch.tensor([math.inf])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer = _trainer(network, scaler=scaler, items=items)
    seen: list[nn.Module] = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(copy.deepcopy(network)))
    trainer.run()
    _assert_same_weights(seen[2], seen[1])
    assert scaler.get_scale() == 512
    assert not torch.equal(network.state_dict()["0.weight"], seen[2].state_dict()["0.weight"])


@pytest.mark.filterwarnings("ignore:.*(CUDA|cuda|GradScaler)")
def test_a_scaler_that_is_off_skips_nothing() -> None:
    network, items = _network(), _items(2)
    items[0]["label"] = torch.tensor([math.inf])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(ValueError, match="in iteration 1"):
        _trainer(network, scaler=scaler, items=items).run()


def test_bad_settings_are_refused() -> None:
    network = _network()
    optimizer = torch.optim.SGD(network.parameters())
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"max_norm must be above 0, got {bad}"):
            GradientClipping(network, optimizer, bad)
    with pytest.raises(ValueError, match=r"accumulation_steps must be 1 .*, got 2"):
        _trainer(network, accumulation_steps=2).run()
