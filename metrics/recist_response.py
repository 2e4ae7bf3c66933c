"""How target lesions respond to treatment, after RECIST 1.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

RECIST_SOURCE = "Eisenhauer et al., RECIST 1.1, Eur J Cancer 45:228-247, 2009"
# Longest diameters in the axial plane, in mm.
MEASURABLE_MM = 10.0
MAX_TARGETS_PER_ORGAN = 2
PARTIAL_DECREASE = 0.30
PROGRESS_INCREASE = 0.20
PROGRESS_INCREASE_MM = 5.0


def target_lesions(longest_mm: Sequence[float]) -> list[int]:
    """Indices of the lesions of the lung to follow: the two largest of 10 mm or more.

    A lesion of 10 mm is measurable in slices of up to 5 mm.
    """
    measurable = [i for i, size in enumerate(longest_mm) if size >= MEASURABLE_MM]
    return sorted(measurable, key=lambda i: -longest_mm[i])[:MAX_TARGETS_PER_ORGAN]


def recist_response(
    baseline_mm: float, nadir_mm: float, current_mm: float, *, new_lesion: bool = False
) -> str:
    """``CR``, ``PR``, ``SD`` or ``PD`` by the sum of the target lesions' longest diameters.

    Progress is a new lesion, or an increase of 20 % and of 5 mm over the smallest sum so far; it
    goes before partial response, a decrease of 30 % from the baseline. Judges target lesions and
    new ones of the lung only: nodes, other organs and non-target lesions are the reader's.

    Args:
        baseline_mm: sum before treatment, above 0.
        nadir_mm: smallest sum so far, the baseline's included.
        current_mm: sum now, 0 where all are gone.
        new_lesion: a lesion that was not there before.

    Raises:
        ValueError: a sum that is not finite, below 0 (the baseline's: 0 too), or a nadir above the
            baseline.
    """
    sums = baseline_mm, nadir_mm, current_mm
    if not all(math.isfinite(value) for value in sums) or baseline_mm <= 0 or min(sums) < 0:
        raise ValueError(
            "sums of diameters must be finite, the baseline's above 0 and no other below 0, "
            f"got {baseline_mm}, {nadir_mm} and {current_mm}"
        )
    if nadir_mm > baseline_mm:
        raise ValueError(f"nadir_mm must be at most baseline_mm, got {nadir_mm} and {baseline_mm}")
    # To a micrometre: 12.0 over 10.0 is an increase of 20 %, whatever the last bit says.
    increase_mm = round(current_mm - nadir_mm, 3)
    if new_lesion or (
        increase_mm >= round(PROGRESS_INCREASE * nadir_mm, 3)
        and increase_mm >= PROGRESS_INCREASE_MM
    ):
        return "PD"
    if current_mm == 0:
        return "CR"
    if round(baseline_mm - current_mm, 3) >= round(PARTIAL_DECREASE * baseline_mm, 3):
        return "PR"
    return "SD"
