"""Which settings of a config a search varies, and between which bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bundles.bundle_config import PLACES
from bundles.given_settings import with_numbers
from bundles.run_bundle import check_overrides

# Settings that each trial gets from the search, and those that tell where and as what it is kept.
OWN_SETTINGS = PLACES | {
    "run_name",
    "run_tags",
    "run_params",
    "run_artifacts",
    "trackers",
    "resume",
}
FORMS = ({"low", "high", "log"}, {"low", "high", "step"}, {"choices"})


def read_space(path: Path, config: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The distribution of each setting that a search's YAML file names.

    ``name: {low: 1e-4, high: 1e-2, log: true}`` is a range of numbers, of whole ones where both
    bounds and the config's own value are; ``step`` may stand in place of ``log``.
    ``name: {choices: [2, 4]}`` is any of some values, which may be of any kind.

    Args:
        path: the YAML file.
        config: the config of the trainings, references unresolved.

    Raises:
        ValueError: the file, a setting that the config lacks, or bounds break a rule.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} must be YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must name the settings to vary, got {content!r}")
    try:
        return {name: _distribution(name, entry, config) for name, entry in content.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's drawn parameters as settings of the config."""
    # Optuna keeps choices as text, since a list is none of its types.
    return {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in params.items()
    }


def _distribution(name: str, entry: Any, config: Mapping[str, Any]) -> BaseDistribution:
    if name.replace("#", "::").split("::")[0] in OWN_SETTINGS:
        raise ValueError(f"a search must not vary {name}, which each trial has of its own")
    if not isinstance(entry, dict) or not any(_has_form(entry, form) for form in FORMS):
        raise ValueError(
            f"{name} must have low and high, with log or step where wished, or choices, "
            f"got {entry!r}"
        )
    entry = {key: with_numbers(value) for key, value in entry.items()}
    if "choices" in entry:
        return _choices(name, entry["choices"], config)
    return _range(name, entry, config)


def _has_form(entry: Mapping[str, Any], form: set[str]) -> bool:
    return form - {"log", "step"} <= entry.keys() <= form


def _choices(name: str, choices: Any, config: Mapping[str, Any]) -> CategoricalDistribution:
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"choices of {name} must be a list of one value or more, got {choices!r}")
    for choice in choices:
        check_overrides({name: choice}, config)
    texts = [json.dumps(choice) for choice in choices]
    if len(set(texts)) < len(texts):
        raise ValueError(f"choices of {name} must differ, got {choices!r}")
    return CategoricalDistribution(texts)


def _range(
    name: str, entry: Mapping[str, Any], config: Mapping[str, Any]
) -> FloatDistribution | IntDistribution:
    low, high, step = entry["low"], entry["high"], entry.get("step")
    log = entry.get("log", False)
    for key, value in {"low": low, "high": high, "step": step}.items():
        if not _is_number(value) and not (key == "step" and "step" not in entry):
            raise ValueError(f"{key} of {name} must be a number, got {value!r}")
    if not isinstance(log, bool):
        raise ValueError(f"log of {name} must be true or false, got {log!r}")
    if low >= high:
        raise ValueError(f"low of {name} must be below high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"low of {name} must be above 0 with log, got {low}")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"step of {name} must be above 0 and at most high - low, got {step}")
    check_overrides({name: low}, config)
    replaced = ConfigParser(dict(config))[name]
    if isinstance(replaced, (dict, list, bool)):
        raise ValueError(f"{name} must be varied by choices, as it is {replaced!r}")
    if all(isinstance(value, int) for value in (low, high, step or 1, replaced)):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
