"""A process of its own for one measurement, and the memory it holds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

RESIDENT, PEAK = "VmRSS", "VmHWM"


def in_fresh_process(call: Callable[..., T], *arguments: object) -> T:
    """What a module's function returns in a new Python process, which ends with it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(call, *arguments).result()


def memory_gib(field: str) -> float:
    """Memory of this process that is resident now, or was at its peak (Linux).

    ``getrusage`` would not do: its peak begins with that of the parent.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 2**20
    raise ValueError(f"field must be one of /proc/self/status, got {field}")
