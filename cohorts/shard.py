"""A part of a cohort's scans, for one of several machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")

WHOLE = "0/1"
SHARD_HELP = (
    "part I of N, counted from 0 as Slurm arrays and Kubernetes indexed Jobs do, such as 2/8; "
    "0/1 is the whole"
)


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 0; the parts together are the whole.

    Raises:
        ValueError: an index below 0, or not below the count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                "shard must be i/n, counted from 0: i from 0 to n - 1, "
                f"got {self.index}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard as it is written on the command line, ``i/n``.

        Raises:
            ValueError: another form, or an index that the count does not have.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None:
            raise ValueError(f"shard must be i/n, counted from 0, such as 2/8, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def part(self, values: Sequence[Value]) -> Sequence[Value]:
        """Every n-th value, the first at the index: neighbours, alike in size, are dealt out."""
        return values[self.index :: self.count]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
