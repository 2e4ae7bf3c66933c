"""Which weights a result came from."""

from __future__ import annotations

import hashlib
from pathlib import Path


def describe_checkpoint(path: str | Path | None) -> dict[str, str] | None:
    """A checkpoint's path and SHA-256, so that a result names the weights it came from."""
    if path is None:
        return None
    with Path(path).open("rb") as stream:
        return {"file": str(path), "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
