from __future__ import annotations

import math

import pytest

from metrics import LUNG_RADS_SIZES, lung_rads_size_category


@pytest.mark.parametrize(
    ("kind", "seen", "limits_mm", "categories"),
    [
        ("solid", "baseline", (6, 8, 15), ("2", "3", "4A", "4B")),
        ("solid", "new", (4, 6, 8), ("2", "3", "4A", "4B")),
        ("solid", "growing", (8,), ("4A", "4B")),
        ("ground-glass", "baseline", (30,), ("2", "3")),
        ("ground-glass", "new", (30,), ("2", "3")),
    ],
)
def test_whole_nodules_in_each_row_and_at_each_limit(
    kind: str, seen: str, limits_mm: tuple[float, ...], categories: tuple[str, ...]
) -> None:
    assert lung_rads_size_category(kind, seen, 1.0) == categories[0]
    for limit, below, above in zip(limits_mm, categories, categories[1:], strict=False):
        # To a tenth: 5.94 is 5.9 and 5.95 is 6.0.
        assert lung_rads_size_category(kind, seen, limit - 0.06) == below
        assert lung_rads_size_category(kind, seen, limit - 0.05) == above
        assert lung_rads_size_category(kind, seen, limit) == above
    assert lung_rads_size_category(kind, seen, 99.0) == categories[-1]


@pytest.mark.parametrize(
    ("seen", "whole_mm", "solid_part_mm", "category"),
    [
        ("baseline", 5.94, 2.0, "2"),
        ("baseline", 5.94, 5.9, "2"),
        ("baseline", 5.95, 2.0, "3"),
        ("baseline", 6.0, 5.94, "3"),
        ("baseline", 12.0, 5.94, "3"),
        ("baseline", 12.0, 5.95, "4A"),
        ("baseline", 12.0, 7.94, "4A"),
        ("baseline", 12.0, 7.95, "4B"),
        ("baseline", 40.0, 30.0, "4B"),
        ("new", 5.94, 2.0, "3"),
        ("new", 5.94, 4.5, "3"),
        ("new", 5.95, 2.0, "4A"),
        ("new", 12.0, 3.94, "4A"),
        ("new", 12.0, 3.95, "4B"),
        ("growing", 5.0, 3.94, "4A"),
        ("growing", 5.0, 3.95, "4B"),
        ("growing", 12.0, 2.0, "4A"),
        ("growing", 12.0, 11.0, "4B"),
    ],
)
def test_part_solid_nodules(
    seen: str, whole_mm: float, solid_part_mm: float, category: str
) -> None:
    found = lung_rads_size_category("part-solid", seen, whole_mm, solid_part_mm=solid_part_mm)
    assert found == category


def test_growing_ground_glass_has_one_row() -> None:
    assert lung_rads_size_category("ground-glass", "growing", 29.9) == "2"
    with pytest.raises(ValueError, match=r"must have a rule .* 'growing', 'nodule' and 30 mm"):
        lung_rads_size_category("ground-glass", "growing", 30.0)


def test_each_row_of_the_table_is_reached() -> None:
    for rule in LUNG_RADS_SIZES:
        size = rule.low_mm + 1
        solid = size if rule.measured == "solid part" else 0.5
        found = lung_rads_size_category(
            rule.kind,
            rule.seen,
            max(size, 6.0) if rule.measured == "solid part" else size,
            solid_part_mm=solid if rule.kind == "part-solid" else None,
        )
        assert found == rule.group, rule


@pytest.mark.parametrize(
    ("kind", "seen", "whole_mm", "solid_part_mm", "sentence"),
    [
        ("part-solid", "new", 8.0, None, "must be given for a part-solid nodule, got None"),
        ("solid", "new", 8.0, 4.0, "must be given for a part-solid nodule only, got 4.0"),
        ("part-solid", "new", 8.0, 8.1, "at most a finite mean_diameter_mm, got 8.1 and 8.0"),
        ("part-solid", "new", 8.0, 0.0, "must be above 0 and at most"),
        ("part-solid", "growing", math.inf, 4.0, "at most a finite mean_diameter_mm"),
        ("part-solid", "growing", math.nan, 4.0, "at most a finite mean_diameter_mm"),
        ("solid", "new", 0.0, None, "mean_diameter_mm must be finite and above 0, got 0.0"),
        ("cystic", "new", 8.0, None, "must have a rule for the nodule, got 'cystic'"),
        ("part-solid", "stable", 8.0, 4.0, "must have a rule .* got 'part-solid', 'stable'"),
    ],
)
def test_what_has_no_category_is_refused(
    kind: str, seen: str, whole_mm: float, solid_part_mm: float | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        lung_rads_size_category(kind, seen, whole_mm, solid_part_mm=solid_part_mm)
