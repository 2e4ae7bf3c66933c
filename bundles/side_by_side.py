"""Programs run a few at a time, each with a log of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

POLL_S = 0.1
GRACE_S = 60.0  # a training ends its iteration and writes a checkpoint in this time
# Exit codes of a command that was stopped: a training ends as by Ctrl-C, others have no say.
INTERRUPTED = (130, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Commands to run one after the other, until one fails.

    Attributes:
        name: for messages.
        steps: name of each command to its arguments.
        log: file to which each command and its output is added; its folder must exist.
    """

    name: str
    steps: Mapping[str, Sequence[str]]
    log: Path


# Job, step, exit code, seconds.
StepEnded = Callable[[Job, str, int, float], None]


class _Step:
    """One running command."""

    def __init__(self, job: Job, name: str, environment: Mapping[str, str]) -> None:
        self.job, self.name = job, name
        self._log: IO[bytes] = job.log.open("ab")
        self._log.write(f"\n$ {shlex.join(job.steps[name])}\n".encode())
        self._log.flush()
        self._began = time.monotonic()
        # A session of its own: a terminal's Ctrl-C reaches it once, through `stop`.
        self.process = subprocess.Popen(
            job.steps[name],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def close(self, ended: StepEnded) -> int:
        code = self.process.wait()
        self._log.close()
        ended(self.job, self.name, code, time.monotonic() - self._began)
        return code


def run_side_by_side(
    jobs: Sequence[Job], *, at_once: int, environment: Mapping[str, str], ended: StepEnded
) -> None:
    """Run the jobs in their order, ``at_once`` at a time, and return when all have ended.

    On Ctrl-C, a scheduler's SIGTERM, a closed terminal or any error here, the commands that run are
    stopped and waited for; a second Ctrl-C kills them.

    Args:
        jobs: those without steps are passed over.
        at_once: 1 or more.
        environment: of every command.
        ended: called after each command, stopped ones included.
    """
    if at_once < 1:
        raise ValueError(f"jobs must be 1 or more, got {at_once}")
    waiting = [job for job in jobs if job.steps]
    running: list[_Step] = []
    with _signals_as_interrupt():
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running.append(_Step(job, next(iter(job.steps)), environment))
                time.sleep(POLL_S)
                for step in [step for step in running if step.process.poll() is not None]:
                    running.remove(step)
                    code = step.close(ended)
                    names = list(step.job.steps)
                    after = names[names.index(step.name) + 1 :]
                    if code == 0 and after:
                        running.append(_Step(step.job, after[0], environment))
        finally:
            _stop(running)
            for step in running:
                step.close(ended)


def _stop(running: Sequence[_Step]) -> None:
    """Ask each command to end; kill what is left after the grace, or at a second Ctrl-C."""
    for step in running:
        if step.process.poll() is None:
            step.process.terminate()  # a command begun in the background may not hear SIGINT
    deadline = time.monotonic() + GRACE_S
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        for step in running:
            step.process.wait(timeout=max(0.0, deadline - time.monotonic()))
    for step in running:
        if step.process.poll() is None:
            os.killpg(step.process.pid, signal.SIGKILL)  # with its data loaders


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt in the block, in the main thread at least."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
