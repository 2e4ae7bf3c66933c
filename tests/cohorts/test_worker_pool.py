from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cohorts.worker_pool import map_in_workers

PROGRAM = """
import os, sys, time
from pathlib import Path
from cohorts.worker_pool import map_in_workers

def wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(map_in_workers(wait, sys.argv[1:], 2))
"""


def square(number: int) -> int:
    if number == 13:
        raise ValueError("13 brings no luck")
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_value_comes_once(workers: int) -> None:
    assert sorted(map_in_workers(square, [3, 1, 2], workers)) == [1, 4, 9]
    assert list(map_in_workers(square, [], workers)) == []
    with pytest.raises(ValueError, match="13 brings no luck"):
        list(map_in_workers(square, [1, 13], workers))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Else they would go on beside the run that takes its place."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    files = [tmp_path / name for name in "ab"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen([sys.executable, program, *files], env=environment)
    try:
        assert _within(60, lambda: all(file.exists() and file.read_text() for file in files))
        workers = [psutil.Process(int(file.read_text())) for file in files]
    finally:
        parent.kill()
        parent.wait()
    try:
        assert not psutil.wait_procs(workers, timeout=20)[1]
    finally:
        for worker in workers:
            if worker.is_running():
                worker.kill()


def _within(seconds: float, met: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not (there := met()) and time.monotonic() < end:
        time.sleep(0.05)
    return there
