"""How a command of this package ends: its errors, its exit code, what it says of lost scans."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path


def run_command(work: Callable[[], Sequence[str] | None], output: Path) -> int:
    """Do a command's work and return its exit code, with any error in one sentence on stderr.

    Args:
        work: prints what it made and returns a sentence for each scan that failed, if any.
        output: the folder that it writes into.

    Returns:
        0 when all is done, 1 on an error or where a scan failed, 130 after Ctrl-C.
    """
    try:
        failures = work() or ()
    except BrokenProcessPool:
        return _error("every worker must live to its end, got one killed; try fewer --workers")
    except OSError as error:
        return _error(_file_sentence(error, output))
    except ValueError as error:
        return _error(str(error))
    except KeyboardInterrupt:
        print(f"interrupted: the same command completes {output}", file=sys.stderr)
        return 130
    for sentence in failures:
        _error(sentence)
    if failures:
        return _error(f"{len(failures)} failed, listed above; all else is done")
    return 0


def _error(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def _file_sentence(error: OSError, output: Path) -> str:
    if error.errno is None:  # raised by this project, with its own sentence
        return str(error)
    reason = error.strerror or error
    place = Path(str(error.filename)) if error.filename else output
    if place.is_relative_to(output) or output.is_relative_to(place):
        return f"{output} must be a folder that can be written, got {reason}"
    return f"{place}: must be readable, got {reason}"
