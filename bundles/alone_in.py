"""A folder that one command at a time may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Keep a second ``what``, such as a comparison, out of the folder.

    Raises:
        ValueError: another has it.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"one {what} at a time may use {folder}, got a second") from error
