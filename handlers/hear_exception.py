"""Hearing of an exception before it ends an engine."""

from __future__ import annotations

from collections.abc import Callable

from ignite.engine import Engine, Events


def hear_exception(engine: Engine, handler: Callable[[Engine, BaseException], None]) -> None:
    """Call `handler` first when an exception ends the engine, and let the exception go on.

    Ignite calls the handlers of `EXCEPTION_RAISED` in turn, skips those after one that raises (as
    MONAI's `CheckpointSaver` and `StatsHandler` do), and drops the exception where none does. It
    has no public way to order them, and may call them twice for one exception.

    To be called when the engine starts, after all other handlers are registered.
    """
    for each in (handler, _raise):
        if not engine.has_event_handler(each, Events.EXCEPTION_RAISED):
            engine.add_event_handler(Events.EXCEPTION_RAISED, each)
    handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
    handlers.sort(key=lambda registered: registered[0] != handler)


def _raise(_engine: Engine, error: BaseException) -> None:
    raise error
