"""Pascal-VOC boxes of one image."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc_boxes(
    path: Path, *, columns: int | None = None, rows: int | None = None
) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Name and box of each object: left, top, right and bottom edges in pixels.

    Numbers are taken as edges, as annotation tools draw them: pixel i reaches from i to i + 1.

    Args:
        path: the XML.
        columns: of the image, where its size is to be checked against the file's.
        rows: of the image.

    Raises:
        ValueError: not such an XML, that of an image of another size, or a box without area.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: must be a whole XML file, got {error}") from error
    if root.tag != "annotation":
        raise ValueError(f"{path}: must hold a Pascal-VOC annotation, got <{root.tag}>")
    for name, wanted in (("width", columns), ("height", rows)):
        size = root.findtext(f"size/{name}")
        if wanted is not None and size is not None and size.strip() != str(wanted):
            raise ValueError(f"{path}: {name} must be that of the image, got {size} and {wanted}")
    boxes = []
    for found in root.iter("object"):
        left, top, right, bottom = (_number(found, name) for name in EDGES)
        if not (left < right and top < bottom):
            raise ValueError(
                f"{path}: a box must have an area, got {left:g}, {top:g} to {right:g}, {bottom:g}"
            )
        boxes.append(((found.findtext("name") or "").strip(), (left, top, right, bottom)))
    return boxes


def _number(found: ElementTree.Element, name: str) -> float:
    try:
        return float(found.findtext(f"bndbox/{name}", ""))
    except ValueError:
        return math.nan
