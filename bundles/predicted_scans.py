"""What an inference wrote of its scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cohorts.datalist import Item, load_datalist


def predicted_scans(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a folder's ``predictions.json``, by the path of the scan."""
    content = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    return {scan["scan"]: scan for scan in content["scans"]}


def predicted_nodules(datalist: Path, folder: Path) -> list[Item]:
    """The testing items with nodules that ``predictions.json`` has."""
    shown = predicted_scans(folder)
    testing = load_datalist(datalist, "testing")
    return [item for item in testing if item["image"] in shown and item["boxes"]]
