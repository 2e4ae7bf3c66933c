from __future__ import annotations

import math
from itertools import groupby, pairwise

import pytest

from metrics.nodule_guidelines import FLEISCHNER_SIZES, LUNG_RADS_SIZES, SizeRule, size_rule


@pytest.mark.parametrize("rules", [LUNG_RADS_SIZES, FLEISCHNER_SIZES])
def test_ranges_of_one_kind_follow_each_other(rules: tuple[SizeRule, ...]) -> None:
    for _, group in groupby(rules, key=lambda rule: (rule.kind, rule.seen, rule.measured)):
        ranges = list(group)
        assert ranges[0].low_mm == ranges[0].low_mm3 == 0
        for one, other in pairwise(ranges):
            assert (one.high_mm, one.high_mm3) == (other.low_mm, other.low_mm3)


def test_lung_rads_volumes_are_those_of_spheres() -> None:
    for rule in LUNG_RADS_SIZES:
        if math.isfinite(rule.high_mm):
            assert rule.high_mm3 == round(math.pi / 6 * rule.high_mm**3)


@pytest.mark.parametrize(
    ("kind", "seen", "measured", "size_mm", "group"),
    [
        ("solid", "baseline", "nodule", 5.94, "2"),
        ("solid", "baseline", "nodule", 5.95, "3"),
        ("solid", "baseline", "nodule", 8.0, "4A"),
        ("solid", "baseline", "nodule", 40.0, "4B"),
        ("solid", "new", "nodule", 3.9, "2"),
        ("solid", "new", "nodule", 4.0, "3"),
        ("solid", "growing", "nodule", 7.9, "4A"),
        ("part-solid", "baseline", "solid part", 6.0, "4A"),
        ("part-solid", "growing", "solid part", 4.0, "4B"),
        ("ground-glass", "new", "nodule", 30.0, "3"),
    ],
)
def test_lung_rads(kind: str, seen: str, measured: str, size_mm: float, group: str) -> None:
    assert size_rule(LUNG_RADS_SIZES, kind, seen, size_mm, measured=measured).group == group


@pytest.mark.parametrize(
    ("kind", "size_mm", "group"),
    [
        ("solid", 5.4, "under 6 mm"),
        ("solid", 5.5, "6 to 8 mm"),
        ("solid", 8.4, "6 to 8 mm"),
        ("solid", 8.5, "over 8 mm"),
        ("part-solid", 6.0, "6 mm and more"),
    ],
)
def test_fleischner(kind: str, size_mm: float, group: str) -> None:
    assert size_rule(FLEISCHNER_SIZES, kind, "any", size_mm, measured="nodule").group == group


def test_what_has_no_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a rule for the nodule, got 'ground-glass'"):
        size_rule(LUNG_RADS_SIZES, "ground-glass", "growing", 31, measured="nodule")
    for size in (0, math.nan):
        with pytest.raises(ValueError, match="mean_diameter_mm must be finite and above 0"):
            size_rule(LUNG_RADS_SIZES, "solid", "new", size, measured="nodule")
