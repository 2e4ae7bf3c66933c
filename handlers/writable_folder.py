"""Folders that can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path


def writable_folder(output_dir: str | Path) -> Path:
    """Makes the folder where it is missing, and tries whether files can be written into it.

    Raises:
        ValueError: it cannot be made or written.
    """
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"output_dir must be a writable folder, got {folder} ({error.strerror})"
        ) from error
    return folder
