"""Pictures within a page."""

from __future__ import annotations

import base64
from pathlib import Path


def embedded_picture(path: Path) -> str:
    """The address of a PNG that an HTML page carries with it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
