"""What the trials of a search are judged by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import gt, lt
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser


@dataclass(frozen=True, kw_only=True)
class SearchJudge:
    """The validation's metric that makes a trial's value.

    Attributes:
        metric: name of a metric of the validation.
        minimize: whether a smaller one is better.
        key_metric: the metric whose best epoch gives a training its weights.
        key_minimize: whether a smaller one of that is better.
    """

    metric: str
    minimize: bool
    key_metric: str
    key_minimize: bool

    def best_epoch(self, history: Path) -> tuple[int, float] | None:
        """Epoch of the weights and the metric's value there; None where there is none.

        ``history`` is the ``history.json`` of a training.
        """
        try:
            rows = json.loads(history.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        better = lt if self.key_minimize else gt
        best: tuple[float, int, float | None] | None = None
        for row in rows:
            validation = row.get("validation", {})
            key = validation.get(self.key_metric)
            if key is not None and (best is None or better(key, best[0])):
                best = key, row["epoch"], validation.get(self.metric)
        if best is None or best[2] is None:
            return None
        return best[1], best[2]


def search_judge(
    config: Mapping[str, Any], *, maximize: str | None = None, minimize: str | None = None
) -> SearchJudge:
    """The judge of a bundle's trainings: its validation's key metric, or another one.

    Raises:
        ValueError: the key metric is named with the wrong direction.
    """
    (key_metric,) = config["validate"]["key_metric"]
    parser = ConfigParser(dict(config))
    better: Callable[[float, float], bool] = gt  # MONAI's own default
    if "metric_cmp_fn" in config["validate"]["evaluator"]:
        better = parser.get_parsed_content("validate::evaluator::metric_cmp_fn")
    key_minimize = bool(better(0.0, 1.0))
    metric = minimize or maximize or key_metric
    minimal = key_minimize if metric == key_metric else minimize is not None
    if metric == key_metric and (maximize if key_minimize else minimize):
        wanted = "minimized" if key_minimize else "maximized"
        raise ValueError(f"{metric} must be {wanted}, as the bundle's validation does")
    return SearchJudge(
        metric=metric, minimize=minimal, key_metric=key_metric, key_minimize=key_minimize
    )


def check_comparable(names: Iterable[str], judge: SearchJudge, config: Mapping[str, Any]) -> None:
    """A loss does not judge trials of which each has a loss of its own.

    Raises:
        ValueError: a setting that is varied belongs to the loss that judges.
    """
    if not judge.metric.endswith("loss"):
        return
    parts = _references("loss", config)
    for name in names:
        if name.replace("#", "::").split("::")[0] in parts:
            raise ValueError(
                f"{name} must not be varied where trials are judged by {judge.metric}, of which it "
                "is a part; name another metric, as in --maximize auroc"
            )


def _references(name: str, config: Mapping[str, Any]) -> set[str]:
    """``name`` and every top-level setting that it refers to, directly or through others."""
    found, waiting = set(), {name}
    while waiting:
        part = waiting.pop()
        found.add(part)
        said = re.findall(r"@(\w+)", json.dumps(config.get(part), default=str))
        waiting |= set(said) - found
    return found
