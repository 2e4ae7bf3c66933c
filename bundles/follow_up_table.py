"""A follow-up in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = (
    "before",
    "after",
    "volume, mm3",
    "growth",
    "doubles in",
    "mean diameter, mm",
    "change",
    "grows by",
)
_GUIDELINES = {
    "lung_rads_growth": "Lung-RADS",
    "fleischner_growth": "Fleischner",
    "bts_growth": "BTS",
}
_SHIFTS = {
    "given": "as given",
    "nodules": "as the nodules agree",
    "none": "the frames as they are",
}


def follow_up_lines(record: Mapping[str, Any]) -> list[str]:
    """The lines of a follow-up's table.

    Args:
        record: that of `bundles.follow_up.follow_up_record`.
    """
    first, second = record["before"], record["after"]
    shift = ", ".join(f"{step:+.1f}" for step in record["shift_mm"])
    lines = [
        f"{first['date']} to {second['date']}, {record['days']} days: "
        f"{len(record['changes'])} seen twice, {len(record['gone'])} gone, "
        f"{len(record['new'])} new",
        f"shift of the scans: {shift} mm ({_SHIFTS[record['shift_source']]})",
    ]
    if record["changes"]:
        lines += ["", *_table([_HEAD, *map(_row, record["changes"])])]
    for name, date in (("gone", first["date"]), ("new", second["date"])):
        lines += [_single(name, nodule, date) for nodule in record[name]]
    return [*lines, "", _recist(record), record["intended_use"]]


def _row(change: Mapping[str, Any]) -> tuple[str, ...]:
    days = change["doubling_time_days"]
    (volume, later_volume), (mean, later_mean) = change["volumes_mm3"], change["mean_diameters_mm"]
    mark = "*" if change["volume"] == "voxel_count" else ""
    return (
        str(change["before"]),
        str(change["after"]),
        f"{volume:.0f} -> {later_volume:.0f}{mark}",
        f"{change['volume_growth_percent']:+.1f} %",
        "unchanged" if days is None else f"{days:.0f} d" if days > 0 else f"halves {-days:.0f} d",
        f"{mean:.1f} -> {later_mean:.1f}",
        f"{change['mean_diameter_change_mm']:+.1f}",
        ", ".join(name for key, name in _GUIDELINES.items() if change[key]) or "-",
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if any("*" in row[2] for row in rows[1:]):
        lines.append("* counted voxels, as a scan has no partial-volume-weighted volume")
    return lines


def _single(name: str, nodule: Mapping[str, Any], date: str) -> str:
    volume = nodule["weighted_mm3"] or nodule["voxel_count_mm3"]
    return (
        f"{name}: nodule {nodule['number']} of {date}, "
        f"{volume:.0f} mm3, mean diameter {nodule['mean_diameter_mm']:.1f} mm"
    )


def _recist(record: Mapping[str, Any]) -> str:
    recist = record["recist"]
    if recist is None:
        return "RECIST 1.1: no nodule of the first scan is measurable, 10 mm or more"
    before, after = recist["sums_mm"]
    targets = "targets" if len(recist["targets"]) > 1 else "target"
    line = (
        f"RECIST 1.1, lung {targets} {' and '.join(map(str, recist['targets']))}: "
        f"{before:.1f} -> {after:.1f} mm, {recist['target_response']}"
    )
    if recist["response"] != recist["target_response"]:
        line += f"; {recist['response']} if a reader confirms that a nodule is new"
    return line
