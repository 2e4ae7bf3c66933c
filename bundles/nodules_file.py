"""The measurements that an inference wrote of one scan's nodules, read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metrics import NoduleMeasurement

_SIZES = ("voxel_count_mm3", "longest_mm", "perpendicular_mm", "mean_diameter_mm")
_MAYBE = ("nodule_hu", "lung_hu")


class NodulesFile(NamedTuple):
    """Attributes:
    path: of the file.
    scan: what was measured, as the file names it.
    nodules: their measurements, in the order of their labels in the mask, from 1.
    """

    path: Path
    scan: str
    nodules: list[NoduleMeasurement]


def read_nodules(path: Path) -> NodulesFile:
    """Read a ``<name>_nodules.json`` of :class:`handlers.SegmentationReport`, of a 3D scan.

    Raises:
        ValueError: it is another file, its scan is 2D, or a number in it cannot be right; the
            sentence names the file, the rule and the value.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a <name>_nodules.json, got no JSON ({error})") from error
    wanted = {"scan": str, "frame": str, "nodules_in_mask": int, "nodules": list}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a <name>_nodules.json, got a {type(content).__name__}")
    for key, kind in wanted.items():
        if not isinstance(content.get(key), kind):
            raise ValueError(
                f"{path} must be a <name>_nodules.json with {key}, got {content.get(key)!r}"
            )
    if content["frame"] != "LPS":
        raise ValueError(f"{path}: frame must be LPS, got {content['frame']!r}")
    if content["nodules_in_mask"] != len(content["nodules"]):
        raise ValueError(
            f"{path} must have every nodule of its mask measured, "
            f"got {len(content['nodules'])} of {content['nodules_in_mask']}"
        )
    nodules = []
    for index, entry in enumerate(content["nodules"]):
        if not isinstance(entry, dict) or entry.get("number") != index + 1:
            raise ValueError(f"{path}: nodules must be numbered from 1, got {entry!r:.80}")
        nodules.append(_measurement(f"{path}, nodule {index + 1}", entry))
    return NodulesFile(path, content["scan"], nodules)


def _measurement(place: str, entry: Mapping[str, Any]) -> NoduleMeasurement:
    centre = entry.get("centre_ras_mm")
    if not isinstance(centre, list) or len(centre) != 3 or not all(map(_finite, centre)):
        raise ValueError(f"{place}: centre_ras_mm must be three finite numbers, got {centre!r}")
    for key in _SIZES:
        if not (_finite(entry.get(key)) and entry[key] > 0):
            raise ValueError(f"{place}: {key} must be finite and above 0, got {entry.get(key)!r}")
    weighted = entry.get("weighted_mm3")
    if weighted is not None and not (_finite(weighted) and weighted > 0):
        raise ValueError(f"{place}: weighted_mm3 must be null or above 0, got {weighted!r}")
    for key in _MAYBE:
        if entry.get(key) is not None and not _finite(entry[key]):
            raise ValueError(f"{place}: {key} must be null or finite, got {entry[key]!r}")
    if not _finite(entry.get("mass_mg")):
        raise ValueError(f"{place}: mass_mg must be finite, got {entry.get('mass_mg')!r}")
    values: dict[str, Any] = {key: entry.get(key) for key in NoduleMeasurement._fields[1:]}
    return NoduleMeasurement((centre[0], centre[1], centre[2]), **values)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool)
