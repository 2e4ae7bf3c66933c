"""Lung-RADS' category of a nodule by its size."""

from __future__ import annotations

import math

from metrics.nodule_guidelines import LUNG_RADS_SIZES, reported_mm, size_rule

# A part-solid nodule is judged as a whole below this, and by its solid part from there on.
_WHOLE_BELOW_MM = 6.0


def lung_rads_size_category(
    kind: str, seen: str, mean_diameter_mm: float, *, solid_part_mm: float | None = None
) -> str:
    """``2``, ``3``, ``4A`` or ``4B`` by kind and mean diameter (Lung-RADS v2022, November 2022).

    Size only: not category 0 or 1, nor what a reader adds or takes away for calcium, fat, place,
    cysts, infection, slow growth or suspicion (4X). A part-solid nodule under 6 mm has a row of
    its own at baseline and where it is new, whatever its solid part; a growing one is one whose
    solid part is growing. Growing ground glass of 30 mm or more has no row.

    Args:
        kind: ``solid``, ``part-solid`` or ``ground-glass``.
        seen: ``baseline``, ``new`` or ``growing``.
        mean_diameter_mm: of the whole nodule, mean of long and short axis.
        solid_part_mm: the same of the solid part, of a part-solid nodule and no other.

    Raises:
        ValueError: no row for such a nodule, a diameter that is not finite and above 0, or a
            solid part that is missing, not asked for or larger than the nodule.
    """
    if kind != "part-solid":
        if solid_part_mm is not None:
            raise ValueError(
                f"solid_part_mm must be given for a part-solid nodule only, got {solid_part_mm} "
                f"for {kind!r}"
            )
        return _category(kind, seen, mean_diameter_mm, "nodule")
    if solid_part_mm is None:
        raise ValueError("solid_part_mm must be given for a part-solid nodule, got None")
    if not (math.isfinite(mean_diameter_mm) and 0 < solid_part_mm <= mean_diameter_mm):
        raise ValueError(
            "solid_part_mm must be above 0 and at most a finite mean_diameter_mm, "
            f"got {solid_part_mm} and {mean_diameter_mm}"
        )
    if seen != "growing" and reported_mm(mean_diameter_mm, 0.1) < _WHOLE_BELOW_MM:
        return _category(kind, seen, mean_diameter_mm, "nodule")
    return _category(kind, seen, solid_part_mm, "solid part")


def _category(kind: str, seen: str, diameter_mm: float, measured: str) -> str:
    return size_rule(LUNG_RADS_SIZES, kind, seen, diameter_mm, measured=measured).group
