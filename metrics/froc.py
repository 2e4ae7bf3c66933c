"""``python -m metrics.froc``: LUNA16's evaluation of a submission, from its tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from metrics.froc_curve import (
    FALSE_POSITIVES_PER_SCAN,
    froc_difference,
    froc_intervals,
    froc_sensitivities,
)
from metrics.luna16_csv import read_findings, read_marks, read_series
from metrics.match_marks import MatchedMarks, match_marks


def froc_report(
    annotations: Path,
    excluded: Path,
    seriesuids: Path,
    submission: Path,
    *,
    compare: Path | None = None,
) -> list[str]:
    """Lines of the report; the last is ``CPM 0.123456 [low, high]`` of ``submission``.

    Raises:
        ValueError: a table breaks a rule; the sentence names the file, the row and the value.
        OSError: a table cannot be read.
    """
    series = read_series(seriesuids)
    nodules = read_findings(annotations, series)
    if not len(nodules.scan):
        raise ValueError(f"{annotations} must have a nodule in the listed series, got none")
    others = read_findings(excluded, series)
    marks = match_marks(read_marks(submission, series), nodules, others, len(series))
    lines = [f"{len(series)} scans, {len(nodules.scan)} nodules"]
    if compare is not None:
        rival = match_marks(read_marks(compare, series), nodules, others, len(series))
        lines += _difference_lines(marks, rival, compare.name)
    return lines + _curve_lines(marks)


def _difference_lines(marks: MatchedMarks, rival: MatchedMarks, name: str) -> list[str]:
    difference, (low, high, _) = froc_difference(marks, rival)
    return [
        f"CPM of {name}: {froc_sensitivities(rival).mean():.6f}",
        f"CPM less that of {name}, paired: {difference:+.6f} [{low:+.6f}, {high:+.6f}]",
    ]


def _curve_lines(marks: MatchedMarks) -> list[str]:
    sensitivities = froc_sensitivities(marks)
    intervals = froc_intervals(marks)
    lines = [
        f"sensitivity at {rate:g} false positives per scan: {value:.6f} [{low:.6f}, {high:.6f}]"
        for rate, value, (low, high, _) in zip(
            FALSE_POSITIVES_PER_SCAN, sensitivities, intervals.sensitivities, strict=True
        )
    ]
    counts = ("true", "false", "missed", "ignored", "double")
    lines.append(", ".join(f"{name} {getattr(marks, name)}" for name in counts))
    low, high, skipped = intervals.cpm
    if skipped:
        lines.append(f"{skipped} resamples without a nodule are left out of the intervals")
    return [*lines, f"CPM {sensitivities.mean():.6f} [{low:.6f}, {high:.6f}]"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 after one sentence on what is wrong with which table."""
    parser = argparse.ArgumentParser(prog="python -m metrics.froc", description=__doc__)
    parser.add_argument("--annotations", type=Path, required=True, help="nodules, diameter_mm")
    parser.add_argument("--excluded", type=Path, required=True, help="findings not to count")
    parser.add_argument("--seriesuids", type=Path, required=True, help="the scans, one a row")
    parser.add_argument("--submission", type=Path, required=True, help="marks with probability")
    parser.add_argument("--compare", type=Path, help="a second submission, for the difference")
    paths = parser.parse_args(arguments)
    try:
        lines = froc_report(
            paths.annotations,
            paths.excluded,
            paths.seriesuids,
            paths.submission,
            compare=paths.compare,
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename} must be a readable file: {error.strerror}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
