"""Settings as a person gives them: ``--set name=value``, and numbers that YAML 1.1 misreads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import yaml


def given_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Config ids with their values, of ``--set name=value``.

    Raises:
        ValueError: no ``=``, or a value that is no YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set must be given as name=value, got {pair}")
        try:
            settings[name] = with_numbers(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ValueError(f"--set must be given a value in YAML, got {pair}") from error
    return settings


def with_numbers(value: Any) -> Any:
    """``value`` with words such as 1e-3, which PyYAML takes for text, as the numbers they are."""
    if isinstance(value, list):
        return [with_numbers(each) for each in value]
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return value
