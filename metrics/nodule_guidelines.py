"""The size and growth thresholds of Lung-RADS v2022 and the Fleischner Society, as data."""

from __future__ import annotations

import math
from typing import NamedTuple

LUNG_RADS_SOURCE = (
    "American College of Radiology, Lung-RADS v2022 (November 2022); "
    "Christensen et al., Chest 165:738-753, 2024"
)
FLEISCHNER_SOURCE = "MacMahon et al., Radiology 284:228-243, 2017"
BTS_SOURCE = "Callister et al., British Thoracic Society, Thorax 70 Suppl 2:ii1-ii54, 2015"


class SizeRule(NamedTuple):
    """A range of size, its lower end in it and its upper end not, unless said otherwise.

    Attributes:
        kind: ``solid``, ``part-solid`` or ``ground-glass``.
        seen: ``baseline``, ``new`` or ``growing``; ``any`` where the guideline does not tell apart.
        measured: ``nodule`` or ``solid part``, whose mean diameter it is.
        low_mm, high_mm: ends of the mean diameter.
        low_mm3, high_mm3: ends of the volume, as the guideline prints them.
        group: the guideline's category, or its row.
        high_inside: whether the upper end belongs to the range.
    """

    kind: str
    seen: str
    measured: str
    low_mm: float
    high_mm: float
    low_mm3: float
    high_mm3: float
    group: str
    high_inside: bool = False


_NO_END = math.inf

# Mean of the long and the short axis in one plane, each to a tenth of a millimetre.
# A growing part-solid nodule is one whose solid part is growing, a new one one whose solid part is.
LUNG_RADS_SIZES = (
    SizeRule("solid", "baseline", "nodule", 0, 6, 0, 113, "2"),
    SizeRule("solid", "baseline", "nodule", 6, 8, 113, 268, "3"),
    SizeRule("solid", "baseline", "nodule", 8, 15, 268, 1767, "4A"),
    SizeRule("solid", "baseline", "nodule", 15, _NO_END, 1767, _NO_END, "4B"),
    SizeRule("solid", "new", "nodule", 0, 4, 0, 34, "2"),
    SizeRule("solid", "new", "nodule", 4, 6, 34, 113, "3"),
    SizeRule("solid", "new", "nodule", 6, 8, 113, 268, "4A"),
    SizeRule("solid", "new", "nodule", 8, _NO_END, 268, _NO_END, "4B"),
    SizeRule("solid", "growing", "nodule", 0, 8, 0, 268, "4A"),
    SizeRule("solid", "growing", "nodule", 8, _NO_END, 268, _NO_END, "4B"),
    SizeRule("part-solid", "baseline", "nodule", 0, 6, 0, 113, "2"),
    # The next three are of nodules of 6 mm (113 mm3) or more in all.
    SizeRule("part-solid", "baseline", "solid part", 0, 6, 0, 113, "3"),
    SizeRule("part-solid", "baseline", "solid part", 6, 8, 113, 268, "4A"),
    SizeRule("part-solid", "baseline", "solid part", 8, _NO_END, 268, _NO_END, "4B"),
    SizeRule("part-solid", "new", "nodule", 0, 6, 0, 113, "3"),
    SizeRule("part-solid", "new", "solid part", 0, 4, 0, 34, "4A"),
    SizeRule("part-solid", "new", "solid part", 4, _NO_END, 34, _NO_END, "4B"),
    SizeRule("part-solid", "growing", "solid part", 0, 4, 0, 34, "4A"),
    SizeRule("part-solid", "growing", "solid part", 4, _NO_END, 34, _NO_END, "4B"),
    SizeRule("ground-glass", "baseline", "nodule", 0, 30, 0, 14137, "2"),
    SizeRule("ground-glass", "baseline", "nodule", 30, _NO_END, 14137, _NO_END, "3"),
    SizeRule("ground-glass", "new", "nodule", 0, 30, 0, 14137, "2"),
    SizeRule("ground-glass", "new", "nodule", 30, _NO_END, 14137, _NO_END, "3"),
    SizeRule("ground-glass", "growing", "nodule", 0, 30, 0, 14137, "2"),
)
# Of the mean diameter, within 12 months.
LUNG_RADS_GROWTH_MM = 1.5

# Mean of the long and the short axis, to the nearest millimetre; for nodules found by chance in
# adults of 35 years or more without cancer or a weak immune system.
FLEISCHNER_SIZES = (
    SizeRule("solid", "any", "nodule", 0, 6, 0, 100, "under 6 mm"),
    SizeRule("solid", "any", "nodule", 6, 8, 100, 250, "6 to 8 mm", high_inside=True),
    SizeRule("solid", "any", "nodule", 8, _NO_END, 250, _NO_END, "over 8 mm"),
    SizeRule("ground-glass", "any", "nodule", 0, 6, 0, 100, "under 6 mm"),
    SizeRule("ground-glass", "any", "nodule", 6, _NO_END, 100, _NO_END, "6 mm and more"),
    SizeRule("part-solid", "any", "nodule", 0, 6, 0, 100, "under 6 mm"),
    SizeRule("part-solid", "any", "nodule", 6, _NO_END, 100, _NO_END, "6 mm and more"),
)
# Of the mean diameter; less is within the error of measurement.
FLEISCHNER_GROWTH_MM = 2.0
# Of the volume. Fleischner's recommendations have no such number, the British guideline has.
BTS_GROWTH_PERCENT = 25.0


def size_rule(
    rules: tuple[SizeRule, ...], kind: str, seen: str, mean_diameter_mm: float, *, measured: str
) -> SizeRule:
    """The rule among ``rules`` that a diameter falls under.

    Lung-RADS' diameters are compared to a tenth of a millimetre and Fleischner's to a whole one,
    as each reports them.

    Raises:
        ValueError: no rule for such a nodule, or a diameter that is not finite and above 0.
    """
    if not (math.isfinite(mean_diameter_mm) and mean_diameter_mm > 0):
        raise ValueError(f"mean_diameter_mm must be finite and above 0, got {mean_diameter_mm}")
    size = reported_mm(mean_diameter_mm, 1.0 if rules is FLEISCHNER_SIZES else 0.1)
    for rule in rules:
        if (rule.kind, rule.seen, rule.measured) == (kind, seen, measured) and (
            rule.low_mm <= size < rule.high_mm or (rule.high_inside and size == rule.high_mm)
        ):
            return rule
    raise ValueError(
        "a guideline must have a rule for the nodule, "
        f"got {kind!r}, {seen!r}, {measured!r} and {mean_diameter_mm:g} mm"
    )


def reported_mm(mean_diameter_mm: float, step_mm: float) -> float:
    """A diameter as it is reported, to ``step_mm``; halves go up, and 5.95 in float is a half."""
    steps = round(1 / step_mm)
    return math.floor(mean_diameter_mm * steps + 0.5 + 1e-6) / steps
