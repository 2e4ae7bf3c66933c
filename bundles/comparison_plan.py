"""What a bundle's comparison.yaml asks for: its arms, and the measures that they are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from bundles.bundle_config import bundle_configs

# How many columns each kind of measure is worked out from.
KINDS = {"auroc": 2, "mean": 1, "ratio_of_means": 2, "median": 1}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a test cohort, worked out from columns of ``per_scan.csv``.

    Attributes:
        title: what a table calls it.
        kind: ``auroc`` (of scores, labels), ``mean``, ``ratio_of_means`` or ``median``.
        columns: the columns, as many as the kind takes.
        decimals: digits behind the point in a table.
        where: column to the values of it that a scan must have one of.

    Raises:
        ValueError: an unknown kind, or a number of columns that does not fit it.
    """

    title: str
    kind: str
    columns: Sequence[str]
    decimals: int
    where: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind}")
        if len(self.columns) != KINDS[self.kind]:
            raise ValueError(
                f"a measure of kind {self.kind} must have {KINDS[self.kind]} columns, "
                f"got {', '.join(self.columns)}"
            )


@dataclass(frozen=True, kw_only=True)
class ComparisonPlan:
    """Arms with their overlays, the one that the others are compared with, and the measures.

    ``notes`` are sentences that the table needs to be read rightly.
    """

    arms: Mapping[str, Sequence[str]]
    reference: str
    measures: Mapping[str, Measure]
    notes: Sequence[str] = ()


def comparison_plan(bundle: str, arms: Sequence[str] = ()) -> ComparisonPlan:
    """The plan of a bundle's ``comparison.yaml``, or the named arms of it.

    Where the file's reference is not among ``arms``, the first of them takes its place.

    Raises:
        ValueError: no such bundle or file, a file that breaks a rule, or an arm that it lacks.
    """
    path = bundle_configs(bundle).parent / "comparison.yaml"
    if not path.is_file():
        raise ValueError(f"a bundle to compare must have a comparison.yaml, got none in {bundle}")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        plan = ComparisonPlan(
            arms=content["arms"],
            reference=content["reference"],
            measures={name: _measure(entry) for name, entry in content["measures"].items()},
            notes=content.get("notes", []),
        )
    except KeyError as error:
        raise ValueError(f"{path} must have {error.args[0]}, got none") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name in [plan.reference, *arms]:
        if name not in plan.arms:
            raise ValueError(f"an arm must be one of {', '.join(plan.arms)}, got {name}")
    if not arms:
        return plan
    return ComparisonPlan(
        arms={name: plan.arms[name] for name in arms},
        reference=plan.reference if plan.reference in arms else arms[0],
        measures=plan.measures,
        notes=plan.notes,
    )


def _measure(entry: Mapping[str, Any]) -> Measure:
    return Measure(
        title=entry["title"],
        kind=entry["kind"],
        columns=entry["columns"],
        decimals=entry["decimals"],
        where=entry.get("where", {}),
    )
