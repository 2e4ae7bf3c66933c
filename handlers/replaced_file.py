"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A new file to write beside ``path``, which it replaces once the block ended well.

    A full disk or Ctrl-C so leaves the file that was there before, or none.
    """
    partial = path.with_name(f".partial-{path.name}")  # keeps the suffix, which names the format
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
