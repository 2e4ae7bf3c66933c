from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

import cohorts.phantom_scan
from cohorts import ScannerSettings
from cohorts.lidc_nodules import LidcNodule, read_lidc_nodules
from cohorts.phantom_nodules import PlacedNodule
from cohorts.phantom_scan import PhantomScan, render_scan
from metrics import NoduleMeasurement, nodule_follow_up, nodule_measurements

DATES = date(2024, 1, 5), date(2024, 7, 3)
DAYS = 180


def nodule(
    x_mm: float,
    longest_mm: float,
    *,
    perpendicular_mm: float | None = None,
    weighted_mm3: float | None = 100.0,
    mass_mg: float = 50.0,
) -> NoduleMeasurement:
    other = longest_mm if perpendicular_mm is None else perpendicular_mm
    return NoduleMeasurement(
        centre_mm=(x_mm, 0.0, 0.0),
        voxel_count_mm3=200.0,
        weighted_mm3=weighted_mm3,
        nodule_hu=0.0,
        lung_hu=-850.0,
        longest_mm=longest_mm,
        perpendicular_mm=other,
        mean_diameter_mm=(longest_mm + other) / 2,
        mass_mg=mass_mg,
    )


def test_one_nodule_by_hand() -> None:
    found = nodule_follow_up(
        [nodule(0, 8, perpendicular_mm=6)],
        [nodule(3, 10, perpendicular_mm=8, weighted_mm3=400, mass_mg=75)],
        dates=DATES,
    )
    (change,) = found.changes
    assert found.days == DAYS
    assert (change.before, change.after, change.distance_mm) == (0, 0, 3)
    assert change.volume == "weighted"
    assert change.volumes_mm3 == (100, 400)
    assert change.volume_growth_percent == pytest.approx(300)
    assert change.doubling_time_days == pytest.approx(90)  # doubled twice in 180 days
    assert change.mean_diameters_mm == (7, 9)
    assert change.mean_diameter_change_mm == 2
    assert change.mass_growth_percent == pytest.approx(50)
    assert (change.lung_rads_growth, change.fleischner_growth, change.bts_growth) == (True,) * 3
    assert (found.gone, found.new, found.recist) == ((), (), None)


@pytest.mark.parametrize(
    ("after_mm3", "doubling_days"), [(50.0, -DAYS), (100.0, math.inf), (25.0, -DAYS / 2)]
)
def test_doubling_time_of_what_shrinks_or_stays(after_mm3: float, doubling_days: float) -> None:
    found = nodule_follow_up([nodule(0, 8)], [nodule(0, 8, weighted_mm3=after_mm3)], dates=DATES)
    assert found.changes[0].doubling_time_days == pytest.approx(doubling_days)
    assert not found.changes[0].bts_growth


def test_a_weighted_volume_is_never_compared_with_a_counted_one() -> None:
    (change,) = nodule_follow_up(
        [nodule(0, 8)], [nodule(0, 8, weighted_mm3=None, mass_mg=0)], dates=DATES
    ).changes
    assert (change.volume, change.volumes_mm3) == ("voxel_count", (200, 200))
    assert change.volume_growth_percent == 0
    assert change.mass_growth_percent is None


def test_gone_new_and_crossed_nodules() -> None:
    before = [nodule(0, 8), nodule(60, 8), nodule(120, 8)]
    after = [nodule(125, 8), nodule(400, 8), nodule(2, 8)]
    found = nodule_follow_up(before, after, dates=DATES)
    assert [(change.before, change.after) for change in found.changes] == [(0, 2), (2, 0)]
    assert (found.gone, found.new) == ((1,), (1,))
    moved = [each._replace(centre_mm=(each.centre_mm[0] + 30, 7.0, 900.0)) for each in after]
    shifted = nodule_follow_up(before, moved, dates=DATES, shift_mm=(30, 7, 900))
    assert shifted == found


def test_empty_lists() -> None:
    assert nodule_follow_up([], [], dates=DATES)[1:] == ((), (), (), None)
    assert nodule_follow_up([], [nodule(0, 8)], dates=DATES).new == (0,)
    gone = nodule_follow_up([nodule(0, 8)], [], dates=DATES)
    assert (gone.gone, gone.recist) == ((0,), None)


def test_recist_follows_the_two_largest_of_the_first_scan() -> None:
    before = [nodule(0, 9.9), nodule(100, 12), nodule(200, 30), nodule(300, 20)]
    after = [nodule(0, 60), nodule(100, 60), nodule(200, 15), nodule(300, 20)]
    found = nodule_follow_up(before, after, dates=DATES).recist
    assert found == ((2, 3), (50, 35), "PR", "PR")
    # A target that is gone counts 0, and a new nodule is progress if it is one.
    found = nodule_follow_up(before, [nodule(900, 5)], dates=DATES).recist
    assert found == ((2, 3), (50, 0), "CR", "PD")
    found = nodule_follow_up([nodule(0, 24)], [nodule(0, 29)], dates=DATES).recist
    assert found == ((0,), (24, 29), "PD", "PD")


def test_dates_in_the_wrong_order_and_sizes_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of a later day than the first, got 2024-07-03"):
        nodule_follow_up([], [], dates=DATES[::-1])
    with pytest.raises(ValueError, match="must be of a later day than the first, got 2024-01-05"):
        nodule_follow_up([], [], dates=(DATES[0], DATES[0]))
    with pytest.raises(ValueError, match="sizes must be finite and above 0"):
        nodule_follow_up([nodule(0, 8, weighted_mm3=0)], [nodule(0, 8)], dates=DATES)
    with pytest.raises(ValueError, match="affine must be"):
        nodule_follow_up([], [], dates=DATES, shift_mm=(0, math.nan, 0))


def phantom(
    nodules: list[LidcNodule], enlarged: float, monkeypatch: pytest.MonkeyPatch
) -> PhantomScan:
    """The patient of seed 5, all lengths of the nodules ``enlarged`` times."""
    place = cohorts.phantom_scan.place_nodule

    def grown(*arguments: Any, **options: Any) -> PlacedNodule:
        placed = place(*arguments, **options)
        return placed if enlarged == 1 else replace(placed, shape=placed.shape.enlarged(enlarged))

    scanner = ScannerSettings(spacing_mm=(0.8, 0.8, 1.25), field_of_view_mm=(260.0, 100.0, 60.0))
    with monkeypatch.context() as later:
        later.setattr(cohorts.phantom_scan, "place_nodule", grown)
        return render_scan(nodules, scanner, np.random.default_rng(5))


def test_growth_of_a_phantom_with_its_true_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    solid = [
        one
        for one in read_lidc_nodules()
        if len(one.readings) >= 3
        and one.ratings["texture"] >= 4
        and one.ratings["spiculation"] < 2.5
        and 7 <= one.diameter_mm <= 12
    ]
    scans = [phantom(solid[:3], enlarged, monkeypatch) for enlarged in (1.0, 1.15)]
    measured = [
        nodule_measurements(scan.image_hu.T, (scan.mask.T > 0).astype(np.uint8), scan.grid.affine)
        for scan in scans
    ]
    found = nodule_follow_up(measured[0][1], measured[1][1], dates=DATES)
    assert len(found.changes) == 3
    errors = []
    for change in found.changes:
        # The labels of the measured nodules are by size, the phantom's in the order of placing.
        first, second = (
            scan.nodules[int(scan.mask.T[instances.labels == index + 1][0]) - 1]
            for scan, (instances, _), index in zip(
                scans, measured, (change.before, change.after), strict=True
            )
        )
        assert first["instance"] == second["instance"]
        ratio = second["volume_mm3"] / first["volume_mm3"]
        assert 1.3 < ratio < 1.6
        errors.append((1 + change.volume_growth_percent / 100) / ratio - 1)
        assert change.bts_growth
        doubling_days = DAYS * math.log(2) / math.log(ratio)
        assert change.doubling_time_days == pytest.approx(doubling_days, rel=0.2)
    # On 92 such nodules of 6 mm or more: mean -0.9 %, SD 1.9 %, nine in ten within 3.2 %.
    assert np.abs(errors).max() < 0.06
    assert abs(np.mean(errors)) < 0.03
