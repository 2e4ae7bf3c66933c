"""A comparison in words: Markdown for a page, and lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMIT = (
    "Mean over the seeds ± SD over the seeds [95 % interval of that mean]: the interval, a "
    "bootstrap over the test patients, says nothing of other seeds, and the SD nothing of other "
    "patients. Without an interval, the patients were too few for one."
)
NOT_MEASURED = "not measured"


def markdown(content: Mapping[str, Any]) -> str:
    """The page of a comparison: what it was made from, each arm's values, and the differences.

    Args:
        content: that of ``comparison.json``.
    """
    measures = content["measures"].values()
    heads = [f"{measure['title']} ({measure['scans']} scans)" for measure in measures]
    others = [arm for arm in content["arms"] if arm != content["reference"]]
    values = [[arm, *(value_cell(each, arm) for each in measures)] for arm in content["arms"]]
    gains = [[arm, *(difference_cell(each, arm) for each in measures)] for arm in others]
    parts = [
        f"**{cohort_line(content)}**",
        f"```sh\n{content['command']}\n```",
        _budget(content),
        LIMIT,
        _table(["arm", *heads], values),
    ]
    if others:
        parts += [
            f"Difference to `{content['reference']}` on the same patients [95 % paired interval]:",
            _table(["arm", *heads], gains),
        ]
    parts += content["notes"]
    parts += [f"Not in the table: {failed_line(each)}." for each in content["failed"]]
    return "\n\n".join(parts) + "\n"


def terminal_lines(content: Mapping[str, Any]) -> list[str]:
    """The same numbers measure by measure, narrow enough for a terminal."""
    width = max(len(arm) for arm in content["arms"])
    lines = [cohort_line(content), LIMIT, *content["notes"]]
    for measure in content["measures"].values():
        lines += ["", f"{measure['title']} ({measure['scans']} scans)"]
        for arm in content["arms"]:
            line = f"  {arm:{width}}  {value_cell(measure, arm)}"
            if arm != content["reference"]:
                line = f"{line:{width + 36}}  difference {difference_cell(measure, arm)}"
            lines.append(line)
    return lines


def cohort_line(content: Mapping[str, Any]) -> str:
    """What the numbers are of, and what they are not for."""
    kind = {True: "Synthetic phantoms, not patients.", False: "Scans of patients."}
    known = kind.get(content["datalist"]["synthetic"])
    return " ".join(filter(None, [known, content["intended_use"]]))


def failed_line(failure: Mapping[str, str]) -> str:
    """One run that is missing, and why."""
    return f"{failure['run']} failed: {failure['error'].rstrip('.')} (see {failure['log']})"


def value_cell(measure: Mapping[str, Any], arm: str) -> str:
    """``0.512 ± 0.020 [0.401, 0.622]``, without the parts that there are none of."""
    entry = measure["arms"].get(arm)
    if entry is None or entry["value"] is None:
        return NOT_MEASURED
    digits = measure["decimals"]
    spread = "" if entry["seed_sd"] is None else f" ± {entry['seed_sd']:.{digits}f}"
    return f"{entry['value']:.{digits}f}{spread}{_interval(entry, digits)}"


def difference_cell(measure: Mapping[str, Any], arm: str) -> str:
    """``+0.112 [-0.020, +0.231]``; a sign stays before a zero that was rounded."""
    entry = measure["arms"].get(arm)
    if entry is None or entry["difference"] is None:
        return NOT_MEASURED
    digits = measure["decimals"]
    return f"{entry['difference']:+.{digits}f}{_interval(entry, digits, 'difference_', '+')}"


def _interval(entry: Mapping[str, Any], digits: int, prefix: str = "", sign: str = "") -> str:
    low, high = entry[f"{prefix}low"], entry[f"{prefix}high"]
    return "" if low is None else f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _budget(content: Mapping[str, Any]) -> str:
    datalist = content["datalist"]
    counts = ", ".join(f"{count} {split}" for split, count in datalist["scans"].items())
    minutes = sum(run["training_seconds"] for run in content["runs"]) / 60
    seeds = ", ".join(map(str, content["seeds"]))
    return (
        f"Scans of `{datalist['name']}` ({counts}; SHA-256 {datalist['sha256'][:12]}…). "
        f"{len(content['runs'])} trainings (epochs: {content['max_epochs']}; seeds: {seeds}) of "
        f"{minutes:.0f} minutes together, {content['date']}."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
