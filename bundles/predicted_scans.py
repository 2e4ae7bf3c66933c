"""What an inference wrote of its scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def predicted_scans(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a folder's ``predictions.json``, by the path of the scan."""
    content = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    return {scan["scan"]: scan for scan in content["scans"]}
