"""``python -m bundles.follow_up``: how a patient's nodules changed between two scans."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bundles.follow_up_table import follow_up_lines
from bundles.nodules_file import NodulesFile, read_nodules
from handlers.findings import DECIMALS
from handlers.three_planes import INTENDED_USE
from handlers.write_json import write_json
from metrics import (
    BTS_GROWTH_PERCENT,
    BTS_SOURCE,
    FLEISCHNER_GROWTH_MM,
    FLEISCHNER_SOURCE,
    LUNG_RADS_GROWTH_MM,
    LUNG_RADS_SOURCE,
    NoduleFollowUp,
    NoduleShift,
    days_between,
    nodule_follow_up,
    nodule_shift,
)
from metrics.nodule_follow_up import MAX_DISTANCE_MM
from metrics.recist_response import RECIST_SOURCE

CHANGE_KEYS = {
    "before": "number of the nodule in the first scan's file",
    "after": "number of the nodule in the second scan's file",
    "distance_mm": "between its two centres, once the first was moved by shift_mm",
    "volume": "which volume is compared: weighted, or voxel_count where a scan has no weighted one",
    "volumes_mm3": "before and after",
    "volume_growth_percent": "after less before, in per cent of before",
    "doubling_time_days": "days in which the volume doubles if it grows exponentially; below 0 "
    "those in which it halves; null where it is unchanged",
    "mean_diameters_mm": "mean of the longest axial diameter and its perpendicular, before, after",
    "mean_diameter_change_mm": "after less before",
    "mass_growth_percent": "of the mass, or null where it is not above 0",
    "lung_rads_growth": f"mean diameter larger by more than {LUNG_RADS_GROWTH_MM:g} mm within 12 "
    "months; of more than a year's increase, one year's share counts",
    "fleischner_growth": f"mean diameter larger by {FLEISCHNER_GROWTH_MM:g} mm or more",
    "bts_growth": f"volume larger by {BTS_GROWTH_PERCENT:g} % or more",
}
SOURCES = {
    "lung_rads_growth": LUNG_RADS_SOURCE,
    "fleischner_growth": FLEISCHNER_SOURCE,
    "bts_growth": BTS_SOURCE,
    "recist": RECIST_SOURCE,
}


def follow_up_record(
    before: NodulesFile,
    after: NodulesFile,
    *,
    dates: tuple[date, date],
    shift_mm: Sequence[float] | None = None,
    max_distance_mm: float = MAX_DISTANCE_MM,
) -> dict[str, Any]:
    """All that is written of a follow-up; lengths and the like have three decimals.

    ``shift_mm`` RAS brings the first scan's positions to the second's; None where the nodules
    are to tell it.

    Raises:
        ValueError: one scan twice, a second scan that is not of a later day, nodules that do
            not tell the shift, or a shift or distance that is not finite.
    """
    days_between(*dates)
    if (before.scan, before.nodules) == (after.scan, after.nodules):
        raise ValueError(f"the two files must be of two scans, got {before.scan} twice")
    places = [[nodule.centre_mm for nodule in each.nodules] for each in (before, after)]
    shift = (
        nodule_shift(*places)
        if shift_mm is None
        else NoduleShift((shift_mm[0], shift_mm[1], shift_mm[2]), "given")
    )
    found = nodule_follow_up(
        before.nodules,
        after.nodules,
        dates=dates,
        shift_mm=shift.shift_mm,
        max_distance_mm=max_distance_mm,
    )
    return {
        "intended_use": INTENDED_USE,
        "before": _about(before, dates[0]),
        "after": _about(after, dates[1]),
        "days": found.days,
        "shift_mm": _rounded(shift.shift_mm),
        "shift_source": shift.source,
        "max_distance_mm": max_distance_mm,
        "change_keys": CHANGE_KEYS,
        "sources": SOURCES,
        "changes": [
            {
                **{key: _rounded(value) for key, value in change._asdict().items()},
                "before": change.before + 1,
                "after": change.after + 1,
            }
            for change in found.changes
        ],
        "gone": [_single(before, index) for index in found.gone],
        "new": [_single(after, index) for index in found.new],
        "recist": _recist(found),
    }


def _about(file: NodulesFile, day: date) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "scan": file.scan,
        "date": day.isoformat(),
        "nodules": len(file.nodules),
    }


def _single(file: NodulesFile, index: int) -> dict[str, Any]:
    nodule = file.nodules[index]
    return {
        "number": index + 1,
        "centre_ras_mm": list(nodule.centre_mm),
        "voxel_count_mm3": nodule.voxel_count_mm3,
        "weighted_mm3": nodule.weighted_mm3,
        "longest_mm": nodule.longest_mm,
        "mean_diameter_mm": nodule.mean_diameter_mm,
    }


def _recist(found: NoduleFollowUp) -> dict[str, Any] | None:
    if found.recist is None:
        return None
    record = {key: _rounded(value) for key, value in found.recist._asdict().items()}
    return {**record, "targets": [index + 1 for index in found.recist.targets]}


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0 if math.isfinite(value) else None
    return value


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{option} must be a date such as 2024-01-05, got {text}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bundles.follow_up", description=__doc__)
    for when, which in (("before", "first"), ("after", "second")):
        file = f"<name>_nodules.json that predict wrote of the {which} scan"
        parser.add_argument(f"--{when}", type=Path, required=True, metavar="JSON", help=file)
        parser.add_argument(
            f"--{when}-date", required=True, metavar="YYYY-MM-DD", help=f"day of the {which} scan"
        )
    parser.add_argument(
        "--shift-mm",
        type=float,
        nargs=3,
        metavar=("RIGHT", "FRONT", "HEAD"),
        help="from a landmark's position in the first scan to that in the second, such as the "
        "carina's; left out, the nodules have to tell",
    )
    parser.add_argument(
        "--max-distance-mm",
        type=float,
        default=MAX_DISTANCE_MM,
        help="farthest that a nodule may then lie from itself (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write it all to")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 after one sentence on the rule that was broken."""
    options = _parser().parse_args(arguments)
    try:
        dates = _day("--before-date", options.before_date), _day("--after-date", options.after_date)
        if options.output is not None:
            _check_output(options.output, (options.before, options.after))
        record = follow_up_record(
            read_nodules(options.before),
            read_nodules(options.after),
            dates=dates,
            shift_mm=options.shift_mm,
            max_distance_mm=options.max_distance_mm,
        )
        if options.output is not None:
            write_json(options.output, record)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename} must be a usable file: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(follow_up_lines(record)))
    return 0


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    if output.resolve() in [path.resolve() for path in inputs]:
        raise ValueError(f"--output must be another file than those read, got {output}")


if __name__ == "__main__":
    sys.exit(main())
