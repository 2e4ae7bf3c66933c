"""JSON written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cohorts.replaced_file import replaced_file


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file in one step: a reader sees the old or the new one, never half of it.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not know.
        OSError: the file cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replaced_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
