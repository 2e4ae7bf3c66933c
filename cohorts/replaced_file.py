"""Files that are replaced whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write; it takes the place of ``path`` if the block ends well.

    Otherwise ``path`` stays as it was, nothing is left beside it, and an ``OSError`` names it.
    """
    part = path.with_name(f".partial-{path.name}")  # keeps the suffix, which names the format
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        # A disk that is full does not say which file it was that found no room.
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
