from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from ignite.engine import Engine, Events

from handlers.stop_on_interrupt import StopOnInterrupt

pytestmark = pytest.mark.usefixtures("terminal_signals")


def send(number: int = signal.SIGINT) -> None:
    """Send a signal to this process and let Python deliver it."""
    os.kill(os.getpid(), number)
    signal.sigpending()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_running_iteration_is_finished_first(number: int) -> None:
    finished: list[int] = []

    def step(engine: Engine, _batch: Any) -> None:
        if engine.state.iteration == 2:
            send(number)
        finished.append(engine.state.iteration)

    engine = Engine(step)
    before = signal.getsignal(signal.SIGINT)
    StopOnInterrupt().attach(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.run(range(5))
    assert finished == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once() -> None:
    finished: list[int] = []

    def step(engine: Engine, _batch: Any) -> None:
        send()
        send()
        finished.append(engine.state.iteration)

    engine = Engine(step)
    StopOnInterrupt().attach(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.run(range(5))
    assert finished == []


def test_waiting_for_a_batch_is_stopped_at_once() -> None:
    def batches() -> Iterator[int]:
        yield 0
        send()
        pytest.fail("the wait went on")

    engine = Engine(lambda _engine, _batch: None)
    StopOnInterrupt().attach(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.run(batches(), epoch_length=2)


def test_an_interrupt_during_validation_stops_the_training() -> None:
    validated: list[int] = []

    def validate(_engine: Engine, batch: int) -> None:
        send()
        validated.append(batch)

    evaluator: Any = Engine(validate)
    trainer = Engine(lambda _engine, _batch: None)
    StopOnInterrupt(evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(3)))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(range(2), max_epochs=2)
    assert validated == [0]
    assert trainer.state.epoch == 1


def _break(_engine: Engine, _batch: Any) -> None:
    raise RuntimeError("broken")


@pytest.mark.parametrize("step", [lambda _engine, _batch: None, _break])
def test_signals_are_given_back_and_errors_go_on(step: Callable[[Engine, Any], None]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    engine = Engine(step)
    StopOnInterrupt().attach(engine)
    if step is _break:
        with pytest.raises(RuntimeError, match="broken"):
            engine.run(range(2))
    else:
        engine.run(range(2))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_trains_without_it() -> None:
    engine = Engine(lambda _engine, _batch: None)
    StopOnInterrupt().attach(engine)
    thread = threading.Thread(target=engine.run, args=(range(3),))
    thread.start()
    thread.join()
    assert engine.state.iteration == 3


def test_hearers_come_first_in_any_order() -> None:
    """A handler that raises again, attached before, does not keep the signals from returning."""
    engine = Engine(_break)

    def raise_again(_engine: Engine, error: Exception) -> None:
        raise error

    engine.add_event_handler(Events.EXCEPTION_RAISED, raise_again)
    StopOnInterrupt().attach(engine)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError):
        engine.run(range(2))
    assert signal.getsignal(signal.SIGINT) is before


def _stopped_rank(rank: int, folder: str) -> None:
    """A training of which the second rank alone is told to stop, twice, in its third iteration."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    finished: list[int] = []

    def step(engine: Engine, _batch: Any) -> None:
        if rank == 1 and engine.state.iteration == 3:
            send()
            send()
        finished.append(engine.state.iteration)

    engine = Engine(step)
    StopOnInterrupt().attach(engine)
    with pytest.raises(KeyboardInterrupt):
        engine.run(range(50))
    send()  # torchrun's, which comes once the training has ended
    Path(folder, f"{rank}.json").write_text(json.dumps(finished))


def test_ranks_stop_before_the_same_iteration(
    at_once: Callable[..., list[int | None]], tmp_path: Path
) -> None:
    assert at_once(_stopped_rank, [(rank, str(tmp_path)) for rank in range(2)]) == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [1, 2, 3]
