"""The JSON that lists a cohort's scans, boxes and labels: its rules, reading and writing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

from cohorts.replaced_file import replaced_file

SPLITS = ("training", "validation", "testing")
SIDES = ("left", "right", "both", "unknown", "none")
WORLD_FRAMES = ("RAS",)
# How many numbers a box has: centre and size in three dimensions, or in two.
BOX_MODES = {"cccwhd": 6, "ccwh": 4}

Item = dict[str, Any]


def load_datalist(path: str | Path, split: str, *, with_risk: bool = False) -> list[Item]:
    """Items of one split, checked, with absolute paths and whatever was left out filled in.

    An item must have ``patient_id``, ``image`` and ``risk`` (1 = cancer). Left out, ``boxes`` and
    ``box_labels`` (1 = malignant) are empty, and ``side``, that of the cancer, is ``none`` for
    risk 0 and ``unknown`` for risk 1.

    Args:
        path: the cohort's datalist JSON; image, mask and lungs are relative to its folder.
        split: ``training``, ``validation`` or ``testing``.
        with_risk: whether the risk is asked for, which some collections do not know.

    Raises:
        FileNotFoundError: the datalist, or a file that it names, is missing.
        ValueError: the datalist breaks a rule; the message names the file, the rule and the value.
    """
    path = Path(path)
    if split not in SPLITS:
        raise ValueError(f"{path}: split must be one of {', '.join(SPLITS)}, got {split!r}")
    datalist = read_datalist(path)
    if with_risk and not datalist.get("knows_cancer", True):
        raise ValueError(
            f"{path}: a risk needs a collection that knows who has cancer, got knows_cancer false"
        )
    if not datalist.get(split):
        raise ValueError(f"{path}: {split} must hold at least one item, got none")
    items = []
    for item in datalist[split]:
        located = _completed(item)
        for key in ("image", "mask", "lungs"):
            if key not in item:
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
    text = json.dumps(datalist, indent=1, allow_nan=False) + "\n"
    with replaced_file(path) as part:
        part.write_text(text, encoding="utf-8")


def check_datalist(datalist: dict[str, Any], path: Path) -> None:
    """Raise ``ValueError`` in one sentence, naming ``path``, for the first rule broken.

    A datalist names the frame and the form of its boxes: ``world_frame`` RAS, ``box_mode``
    ``cccwhd`` (centre and size; ``ccwh`` in 2D), ``box_unit`` mm. Its splits hold one item for
    each scan, with ``patient_id``, ``image`` (relative to the datalist, or absolute), ``risk``
    and what :func:`load_datalist` fills in; the readers of collections add ``source``, which
    names the scan there. A patient's scans are in one split. ``knows_cancer`` false at the top
    says that the collection has no word on cancer, and that a risk of 0 means nothing.
    """
    _check_word(path, "world_frame", datalist.get("world_frame"), WORLD_FRAMES)
    _check_word(path, "box_mode", datalist.get("box_mode"), tuple(BOX_MODES))
    split_of: dict[str, str] = {}
    for split in SPLITS:
        items = datalist.get(split, [])
        if not isinstance(items, list):
            raise ValueError(f"{path}: {split} must be a list, got {type(items).__name__}")
        for number, item in enumerate(items):
            if not isinstance(item, dict):
                raise ValueError(f"{path}: {split}[{number}] must be an object, got {item!r}")
            patient = item.get("patient_id")
            if not _is_text(patient) or "/" in patient or "\\" in patient:
                raise ValueError(
                    f"{path}: patient_id of {split}[{number}] must be a text that is not empty and "
                    f"has no path separator, got {patient!r}"
                )
            if split_of.setdefault(patient, split) != split:
                raise ValueError(
                    f"{path}: a patient must be in one split, got {patient} in "
                    f"{split_of[patient]} and {split}"
                )
            # Braces in a name are no fields to fill.
            names = (name.replace("{", "{{").replace("}", "}}") for name in (str(path), patient))
            _check_item(item, datalist["box_mode"], ": {} of ".join(names))


def _completed(item: Item) -> Item:
    defaults: Item = {"boxes": [], "box_labels": [], "side": "unknown" if item["risk"] else "none"}
    full = {**defaults, **item, "risk": int(item["risk"])}
    full["box_labels"] = [int(label) for label in full["box_labels"]]
    return full


def _check_word(path: Path, name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{path}: {name} must be {' or '.join(words)}, got {value!r}")


def _check_item(item: Item, box_mode: str, place: str) -> None:
    for key in ("image", "mask", "lungs"):
        if (key == "image" or key in item) and not _is_text(item.get(key)):
            raise ValueError(f"{place.format(key)} must be a path, got {item.get(key)!r}")
    if not _is_binary(item.get("risk")):
        raise ValueError(f"{place.format('risk')} must be 0 or 1, got {item.get('risk')!r}")
    if "side" in item and item["side"] not in SIDES:
        raise ValueError(
            f"{place.format('side')} must be one of {', '.join(SIDES)}, got {item['side']!r}"
        )
    _check_boxes(item, box_mode, place)
    _check_agreement(item, place)
    _check_years(item, place)


def _check_boxes(item: Item, box_mode: str, place: str) -> None:
    for key, partner in (("boxes", "box_labels"), ("box_labels", "boxes")):
        if key in item and partner not in item:
            raise ValueError(
                f"{place.format(partner)} must come with {key}, got {item[key]!r} alone"
            )
    for key in ("boxes", "box_labels", "nodules"):
        if key in item and not isinstance(item[key], list):
            raise ValueError(f"{place.format(key)} must be a list, got {item[key]!r}")
    boxes, labels, nodules = (item.get(key, []) for key in ("boxes", "box_labels", "nodules"))
    if len(boxes) != len(labels) or ("nodules" in item and len(boxes) != len(nodules)):
        raise ValueError(
            f"{place.format('boxes, box_labels and nodules')} must have the same length, "
            f"got {len(boxes)}, {len(labels)} and {len(nodules)}"
        )
    for box, label in zip(boxes, labels, strict=True):
        _check_box(box, box_mode, place.format("a box"))
        if not _is_binary(label):
            raise ValueError(f"{place.format('a box label')} must be 0 or 1, got {label!r}")


def _check_box(box: object, box_mode: str, place: str) -> None:
    count = BOX_MODES[box_mode]
    if not isinstance(box, list) or len(box) != count or not all(map(_is_number, box)):
        number = {4: "four", 6: "six"}[count]
        raise ValueError(f"{place} must be {number} finite numbers ({box_mode}), got {box!r}")
    if min(box[count // 2 :]) <= 0:
        raise ValueError(f"{place} must have sizes above 0, got {box}")


def _check_agreement(item: Item, place: str) -> None:
    """Risk, side and box labels are three words for one diagnosis."""
    if item["risk"]:
        if item.get("side") == "none":
            raise ValueError(f"{place.format('side')} must not be none where risk is 1, got 'none'")
        return
    if item.get("side", "none") != "none":
        raise ValueError(
            f"{place.format('side')} must be none where risk is 0, got {item['side']!r}"
        )
    if any(item.get("box_labels", [])):
        raise ValueError(
            f"{place.format('box_labels')} must all be 0 where risk is 0, got {item['box_labels']}"
        )


def _check_years(item: Item, place: str) -> None:
    """Either may be left out; what is there must not contradict the risk or the other."""
    diagnosis, end = (item.get(key) for key in ("years_to_diagnosis", "censoring_years"))
    for key, years in (("years_to_diagnosis", diagnosis), ("censoring_years", end)):
        if years is not None and not (_is_number(years) and years > 0):
            raise ValueError(f"{place.format(key)} must be above 0, got {years!r}")
    if diagnosis is None:
        return
    if not item["risk"]:
        raise ValueError(
            f"{place.format('years_to_diagnosis')} must be null where risk is 0, got {diagnosis}"
        )
    if end is not None and end < diagnosis:
        raise ValueError(
            f"{place.format('censoring_years')} must not be below years_to_diagnosis, "
            f"got {end} and {diagnosis}"
        )


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _is_binary(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
