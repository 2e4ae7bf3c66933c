"""Rows of a benchmark, printed and kept as JSON with the machine, the versions and the date."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("monai", "numpy", "scikit-learn", "scipy", "torch")


class Row(NamedTuple):
    """One quantity, of which less is better, of Locus and of its peer, None where none was run."""

    what: str
    ours: float
    peer: float | None
    unit: str

    @property
    def ratio(self) -> float | None:
        """How many times the peer's is ours; none where there is no peer or ours is 0."""
        return None if self.peer is None or self.ours == 0 else self.peer / self.ours


class Times(NamedTuple):
    """Medians in CPU seconds."""

    ours: float
    peer: float


def interleaved_cpu_s(
    ours: Callable[[], object], peer: Callable[[], object], *, rounds: int, ours_per_round: int = 1
) -> Times:
    """Time both in turns, once each to warm up, by this thread's CPU clock.

    Other load on the machine lengthens the wall clock, this one much less.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for round_number in range(rounds + 1):
        for times, call, repeats in ((taken[0], ours, ours_per_round), (taken[1], peer, 1)):
            for _ in range(repeats):
                start = time.thread_time()
                call()
                if round_number or rounds == 1:
                    times.append(time.thread_time() - start)
    return Times(*(statistics.median(times) for times in taken))


def write_report(name: str, rows: Sequence[Row], *, notes: Sequence[str] = ()) -> Path:
    """Print the rows and write ``benchmarks/results/<name>.json``."""
    report = {
        **provenance(name),
        "notes": list(notes),
        "rows": [
            {
                "what": row.what,
                "ours": _rounded(row.ours),
                "peer": _rounded(row.peer),
                "ratio": _rounded(row.ratio),
                "unit": row.unit,
            }
            for row in rows
        ],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print("what, ours, peer, ratio")
    width = max(len(row.what) for row in rows)
    for row in rows:
        peer = f"{row.peer:10.4g}" if row.peer is not None else " " * 10
        ratio = f"  {row.ratio:.4g}x" if row.ratio is not None else ""
        print(f"{row.what:{width}}  {row.ours:10.4g}  {peer} {row.unit}{ratio}")
    for note in notes:
        print(note)
    return path


def provenance(name: str) -> dict[str, Any]:
    """Command, date, machine and versions of a benchmark's record."""
    return {
        "command": f"python -m benchmarks.{name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.machine()}",
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _processor() -> str:
    """Model name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
