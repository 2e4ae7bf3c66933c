from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def terminal_signals() -> Iterator[None]:
    """Signals as a terminal has them: a CI that starts tests in the background ignores some."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hangup)
