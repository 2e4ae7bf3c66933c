"""What became of each nodule from one scan of a patient to the next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metrics.match_nodules import MatchedNodules, match_nodules
from metrics.nodule_growth import (
    bts_growth,
    days_between,
    doubling_time_days,
    fleischner_growth,
    growth_percent,
    lung_rads_growth,
)
from metrics.nodule_measurements import NoduleMeasurement
from metrics.recist_response import recist_response, target_lesions

# Room for what breathing and a turn leave between two scans of a patient, whose frames are
# brought together by a shift alone.
MAX_DISTANCE_MM = 25.0


class NoduleChange(NamedTuple):
    """One nodule at both time points.

    Attributes:
        before, after: its index in either list.
        distance_mm: between its centres, once the first was shifted.
        volume: ``weighted`` or ``voxel_count``, which volume of `NoduleVolume` is compared.
        volumes_mm3: before and after.
        volume_growth_percent: below 0 where it shrank.
        doubling_time_days: of the volume; below 0 the time to halve, inf where it is unchanged.
        mean_diameters_mm: before and after.
        mean_diameter_change_mm: after less before.
        mass_growth_percent: None where a mass is not above 0.
        lung_rads_growth, fleischner_growth, bts_growth: see `metrics.nodule_growth`.
    """

    before: int
    after: int
    distance_mm: float
    volume: str
    volumes_mm3: tuple[float, float]
    volume_growth_percent: float
    doubling_time_days: float
    mean_diameters_mm: tuple[float, float]
    mean_diameter_change_mm: float
    mass_growth_percent: float | None
    lung_rads_growth: bool
    fleischner_growth: bool
    bts_growth: bool


class RecistFollowUp(NamedTuple):
    """Attributes:
    targets: indices before of the target lesions.
    sums_mm: of their longest diameters, before and after; a target that is gone has 0.
    target_response: ``CR``, ``PR``, ``SD`` or ``PD`` by the sums alone.
    response: the same where new nodules count as new lesions, which a reader has to confirm.
    """

    targets: tuple[int, ...]
    sums_mm: tuple[float, float]
    target_response: str
    response: str


class NoduleFollowUp(NamedTuple):
    """Attributes:
    days: from the first scan to the second.
    changes: of each nodule seen twice, in the first scan's order.
    gone: indices of nodules seen before only.
    new: indices of nodules seen after only.
    recist: None where no nodule before is measurable, 10 mm or more.
    """

    days: int
    changes: tuple[NoduleChange, ...]
    gone: tuple[int, ...]
    new: tuple[int, ...]
    recist: RecistFollowUp | None


def nodule_follow_up(
    before: Sequence[NoduleMeasurement],
    after: Sequence[NoduleMeasurement],
    *,
    dates: tuple[date, date],
    shift_mm: npt.ArrayLike = (0.0, 0.0, 0.0),
    max_distance_mm: float = MAX_DISTANCE_MM,
) -> NoduleFollowUp:
    """Match the nodules of two scans by position and compare each with itself.

    The partial-volume-weighted volumes are compared where both scans have one, else those of
    counted voxels: never one with the other. For RECIST the first scan is both the baseline and
    the smallest sum so far, and only the lung's nodules count.

    Args:
        before: as `nodule_measurements` returns them, of the first scan.
        after: of the second.
        dates: of the two scans.
        shift_mm: RAS, brings positions before to those after, see `nodule_shift`.
        max_distance_mm: the farthest that the two of a pair may then lie from each other.

    Raises:
        ValueError: the second scan is not of a later day, a volume or diameter is not finite and
            above 0, or a shift or distance that is not finite.
    """
    days = days_between(*dates)
    affine = np.eye(4)
    affine[:3, 3] = shift_mm
    matched = match_nodules(
        [nodule.centre_mm for nodule in before],
        [nodule.centre_mm for nodule in after],
        max_distance_mm=max_distance_mm,
        affine=affine,
    )
    changes = tuple(
        _change(before, after, pair=pair, distance_mm=distance, days=days)
        for pair, distance in zip(matched.pairs, matched.distances_mm, strict=True)
    )
    return NoduleFollowUp(days, changes, matched.gone, matched.new, _recist(before, after, matched))


def _change(
    before: Sequence[NoduleMeasurement],
    after: Sequence[NoduleMeasurement],
    *,
    pair: tuple[int, int],
    distance_mm: float,
    days: int,
) -> NoduleChange:
    first, second = before[pair[0]], after[pair[1]]
    kind, volumes = _volumes(first, second)
    means = first.mean_diameter_mm, second.mean_diameter_mm
    weighed = min(first.mass_mg, second.mass_mg) > 0
    return NoduleChange(
        *pair,
        distance_mm,
        kind,
        volumes,
        growth_percent(*volumes),
        doubling_time_days(*volumes, days),
        means,
        means[1] - means[0],
        growth_percent(first.mass_mg, second.mass_mg) if weighed else None,
        lung_rads_growth(*means, days),
        fleischner_growth(*means),
        bts_growth(*volumes),
    )


def _volumes(
    first: NoduleMeasurement, second: NoduleMeasurement
) -> tuple[str, tuple[float, float]]:
    if first.weighted_mm3 is None or second.weighted_mm3 is None:
        return "voxel_count", (first.voxel_count_mm3, second.voxel_count_mm3)
    return "weighted", (first.weighted_mm3, second.weighted_mm3)


def _recist(
    before: Sequence[NoduleMeasurement],
    after: Sequence[NoduleMeasurement],
    matched: MatchedNodules,
) -> RecistFollowUp | None:
    targets = target_lesions([nodule.longest_mm for nodule in before])
    if not targets:
        return None
    later = dict(matched.pairs)
    baseline = sum(before[target].longest_mm for target in targets)
    current = sum(after[later[target]].longest_mm for target in targets if target in later)
    return RecistFollowUp(
        tuple(targets),
        (baseline, current),
        recist_response(baseline, baseline, current),
        recist_response(baseline, baseline, current, new_lesion=bool(matched.new)),
    )
