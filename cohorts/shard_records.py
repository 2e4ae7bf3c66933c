"""What each shard of a run did, on disk until the shards are merged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cohorts.replaced_file import replaced_file
from cohorts.shard import Shard

FOLDER = "shards"
_NAME = re.compile(r"(\d+)-of-(\d+)\.json")

Outcome = dict[str, Any]


@dataclass(frozen=True)
class MergedShards:
    """Attributes:
    run: what all shards have in common.
    outcomes: of every scan with its shard, in the order of one run over all.
    """

    run: dict[str, Any]
    outcomes: tuple[tuple[Shard, Outcome], ...]


@contextmanager
def shard_begun(folder: Path, shard: Shard) -> Iterator[None]:
    """While the block runs, no other process does this shard; its old record is gone from here on.

    So are those of another number of shards. The whole needs neither record nor lock.

    Raises:
        ValueError: another process is at this shard.
        OSError: the folder cannot be written.
    """
    place = folder / FOLDER
    if shard.count > 1:
        place.mkdir(parents=True, exist_ok=True)
    for path in _records(folder):
        if (one := _shard_of(path)).count != shard.count or one == shard:
            path.unlink(missing_ok=True)
    if shard.count == 1:
        yield
        return
    lock = FileLock(place / f".{shard_path(folder, shard).stem}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{folder}: a shard must be done by one process at a time, got {shard} twice"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_shard(
    folder: Path, shard: Shard, run: Mapping[str, Any], outcomes: Sequence[Outcome]
) -> None:
    """Record that a shard was done to its end.

    Args:
        folder: of the run's results.
        shard: which.
        run: JSON values that all shards have in common, with the number of ``scans`` of all.
        outcomes: of each of the shard's scans, in order; JSON values.
    """
    path = shard_path(folder, shard)
    content = {"run": dict(run), "outcomes": list(outcomes)}
    with replaced_file(path) as part:
        part.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def shard_path(folder: Path, shard: Shard) -> Path:
    """Where the record of a shard is."""
    return folder / FOLDER / f"{shard.index}-of-{shard.count}.json"


def read_shards(folder: Path) -> MergedShards:
    """All shards of a run.

    Raises:
        ValueError: there is none; one is missing or damaged, or of another run than the newest.
    """
    paths = {_shard_of(path): path for path in _records(folder)}
    if not paths:
        raise ValueError(
            f"{folder / FOLDER}: must hold the records of shards, got none; a run without --shard "
            "needs no merging"
        )
    newest = max(paths, key=lambda shard: paths[shard].stat().st_mtime_ns)
    shards = [Shard(index, newest.count) for index in range(newest.count)]
    missing = [str(shard) for shard in shards if shard not in paths]
    if missing:
        raise ValueError(
            f"{folder}: every shard must have been done to its end, got none of {_listed(missing)}"
        )
    records = {shard: _read(paths[shard], shard, folder) for shard in shards}
    run = records[newest]["run"]
    stale = [str(shard) for shard in shards if records[shard]["run"] != run]
    if stale:
        raise ValueError(
            f"{folder}: all shards must be of one run, with the same scans and settings, got "
            f"{_listed(stale)} of another than {newest}, the newest; do them again"
        )
    parts = [records[shard]["outcomes"] for shard in shards]
    places = range(int(run["scans"]))
    if [len(shard.part(places)) for shard in shards] != [len(part) for part in parts]:
        raise ValueError(f"{folder}: the shards must have {len(places)} scans, got others")
    turns = [divmod(place, len(shards)) for place in places]
    return MergedShards(run, tuple((shards[one], parts[one][step]) for step, one in turns))


def stale_shard(folder: Path, shard: Shard, name: str) -> ValueError:
    """The error of a shard whose result of one scan is not there any more."""
    return ValueError(
        f"{folder}: a shard's results must be as it left them, got those of {name} changed or lost "
        f"since; do shard {shard} again"
    )


def _records(folder: Path) -> list[Path]:
    return [path for path in (folder / FOLDER).glob("*.json") if _NAME.fullmatch(path.name)]


def _shard_of(path: Path) -> Shard:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return Shard(int(match[1]), int(match[2]))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _read(path: Path, shard: Shard, folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        int(content["run"]["scans"]), len(content["outcomes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: must be the record of a shard, got {type(error).__name__}; do {shard} again"
        ) from error
    return content
