"""LIDC-IDRI's XML files: what each reader outlined and rated in one series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from cohorts.lidc_nodules import RATINGS, LidcContour, LidcReading

SPACE = "{http://www.nih.gov}"
# Chest X-rays' root, and what follows the head.
OTHERS = (f"{SPACE}IdriReadMessage", f"{SPACE}readingSession")


def read_lidc_xml(path: Path) -> tuple[str, list[LidcReading]]:
    """The series' UID and every reading of a nodule of 3 mm or more, in the file's order.

    Nodules below 3 mm and marks of what is no nodule have no ratings and are passed by.

    Raises:
        ValueError: not a whole XML file of that form; names the file and the reader's nodule.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: must be a whole XML file, got {error}") from error
    if root.tag != f"{SPACE}LidcReadMessage":
        raise ValueError(f"{path}: must hold a LidcReadMessage, got {root.tag}")
    series = root.findtext(f"{SPACE}ResponseHeader/{SPACE}SeriesInstanceUid", "").strip()
    if not series:
        raise ValueError(f"{path}: SeriesInstanceUid must be given, got none")
    found = root.iterfind(f"{SPACE}readingSession/{SPACE}unblindedReadNodule")
    readings: list[LidcReading] = []
    for nodule in found:
        ratings = nodule.find(f"{SPACE}characteristics")
        if ratings is None or ratings.find(f"{SPACE}malignancy") is None:
            continue
        name = nodule.findtext(f"{SPACE}noduleID", "").strip()
        try:
            values = {rating: int(ratings.findtext(f"{SPACE}{rating}", "")) for rating in RATINGS}
            contours = tuple(_contours(nodule))
        except ValueError as error:
            raise ValueError(f"{path}: nodule {name} must have numbers, got {error}") from error
        if not contours:
            raise ValueError(f"{path}: nodule {name} must have an outline, got none")
        readings.append(LidcReading(len(readings), values, contours))
    return series, readings


def lidc_xml_files(folder: Path) -> dict[str, Path]:
    """The XML file of each CT series below a folder; those of chest X-rays are passed by.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: two files are of one series, or none of any.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: must be a folder with LIDC's XML files, got none")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.xml")):
        series = _series(path)
        if series and files.setdefault(series, path) != path:
            raise ValueError(f"{path}: a series must have one XML, got also {files[series]}")
    if not files:
        raise ValueError(f"{folder}: must hold XML files of LIDC's CT series, got none")
    return files


def _contours(nodule: ElementTree.Element) -> Iterator[LidcContour]:
    for roi in nodule.iterfind(f"{SPACE}roi"):
        points = [
            [int(point.findtext(f"{SPACE}{axis}Coord", "")) for axis in "xy"]
            for point in roi.iterfind(f"{SPACE}edgeMap")
        ]
        if points:
            inclusion = roi.findtext(f"{SPACE}inclusion", "TRUE").strip().upper() == "TRUE"
            z_mm = float(roi.findtext(f"{SPACE}imageZposition", ""))
            yield LidcContour(z_mm, inclusion, np.array(points, np.int32))


def _series(path: Path) -> str:
    """From the head of the file alone: it is a hundred times smaller than the outlines."""
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            if event == "start" and element.tag in OTHERS:
                return ""
            if event == "end" and element.tag == f"{SPACE}SeriesInstanceUid":
                return (element.text or "").strip()
    except ElementTree.ParseError:
        return ""
    return ""
