from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

SPLITS = ("training", "validation", "testing")
SIDES = ("left", "right", "both", "unknown", "none")
WORLD_FRAMES = ("RAS",)
BOX_MODES = ("cccwhd",)

Item = dict[str, Any]


def load_datalist(path: str | Path, split: str) -> list[Item]:
    """Items of one split, with absolute paths, checked.

    Args:
        path: the cohort's datalist JSON; image, mask and lungs are relative to its folder.
        split: ``training``, ``validation`` or ``testing``.

    Raises:
        FileNotFoundError: the datalist, or a file that it names, is missing.
        ValueError: the datalist breaks a rule; the message names the file, the rule and the value.
    """
    path = Path(path)
    if split not in SPLITS:
        raise ValueError(f"{path}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    datalist = read_datalist(path)
    if not datalist.get(split):
        raise ValueError(f"{path}: {split} must hold at least one item, got none")
    items = []
    for item in datalist[split]:
        located = dict(item)
        for key in ("image", "mask", "lungs"):
            if item.get(key) is None:
                continue
            file = path.parent.resolve() / item[key]
            if not file.is_file():
                raise FileNotFoundError(
                    f"{path}: {key} of {item['patient_id']} must exist, got {item[key]}"
                )
            located[key] = str(file)
        items.append(located)
    return items


def read_datalist(path: str | Path) -> dict[str, Any]:
    """The whole datalist as it stands in the file, checked; images are not looked for.

    Raises as :func:`load_datalist`.
    """
    path = Path(path)
    try:
        datalist = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: the datalist must exist, got no file") from error
    except OSError as error:
        raise ValueError(f"{path}: the datalist must be readable, got {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: the datalist must be JSON, got {error}") from error
    if not isinstance(datalist, dict):
        raise ValueError(f"{path}: the datalist must be an object, got {type(datalist).__name__}")
    check_datalist(datalist, path)
    return datalist


def write_datalist(datalist: dict[str, Any], path: str | Path) -> None:
    """Check a datalist and write it; a reader sees the old file or the new one, never a part."""
    path = Path(path)
    check_datalist(datalist, path)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(datalist, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def check_datalist(datalist: dict[str, Any], path: Path) -> None:
    """Raise ``ValueError`` in one sentence, naming ``path``, for the first rule broken."""
    _check_word(path, "world_frame", datalist.get("world_frame"), WORLD_FRAMES)
    _check_word(path, "box_mode", datalist.get("box_mode"), BOX_MODES)
    split_of: dict[str, str] = {}
    for split in SPLITS:
        items = datalist.get(split, [])
        if not isinstance(items, list):
            raise ValueError(f"{path}: {split} must be a list, got {type(items).__name__}")
        for number, item in enumerate(items):
            if not isinstance(item, dict) or not item.get("patient_id") or not item.get("image"):
                raise ValueError(
                    f"{path}: an item must name its patient_id and image, "
                    f"got {split}[{number}] without"
                )
            patient = item["patient_id"]
            if split_of.setdefault(patient, split) != split:
                raise ValueError(
                    f"{path}: a patient must be in one split, got {patient} in "
                    f"{split_of[patient]} and {split}"
                )
            _check_item(item, f"{path}: {{}} of {patient}")


def _check_word(path: Path, name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{path}: {name} must be {' or '.join(words)}, got {value!r}")


def _check_item(item: Item, place: str) -> None:
    boxes, labels, nodules = (item.get(key, []) for key in ("boxes", "box_labels", "nodules"))
    if len(boxes) != len(labels) or ("nodules" in item and len(boxes) != len(nodules)):
        raise ValueError(
            f"{place.format('boxes, box_labels and nodules')} must have the same length, "
            f"got {len(boxes)}, {len(labels)} and {len(nodules)}"
        )
    for box in boxes:
        _check_box(box, place.format("a box"))
    if item.get("side", "unknown") not in SIDES:
        raise ValueError(
            f"{place.format('side')} must be one of {', '.join(SIDES)}, got {item['side']!r}"
        )
    if item.get("risk", 0) not in (0, 1):
        raise ValueError(f"{place.format('risk')} must be 0 or 1, got {item['risk']!r}")
    for key in ("years_to_diagnosis", "censoring_years"):
        years = item.get(key)
        if years is not None and not (_is_number(years) and years > 0):
            raise ValueError(f"{place.format(key)} must be above 0, got {years!r}")


def _check_box(box: object, place: str) -> None:
    if not isinstance(box, list) or len(box) != 6 or not all(_is_number(value) for value in box):
        raise ValueError(f"{place} must be six finite numbers (cccwhd), got {box}")
    if min(box[3:]) <= 0:
        raise ValueError(f"{place} must have sizes above 0, got {box}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
