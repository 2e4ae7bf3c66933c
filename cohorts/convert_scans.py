"""Scans of a collection converted one by one, where a bad one costs only itself."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from cohorts.datalist import Item
from cohorts.replaced_file import replaced_file
from cohorts.worker_pool import map_in_workers

# Errors of the disk, not of the scan: every other scan would fail of them too.
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class LeftOut(Exception):  # noqa: N818
    """Raised by a conversion: the scan is sound, but no scan for the datalist; says why."""


@dataclass(frozen=True)
class ScanJob:
    """One scan to convert; readers add fields of their own, which JSON can hold.

    Attributes:
        name: its own within the collection; names the files.
        sources: files and folders that the item is made from; a change makes it anew.
    """

    name: str
    sources: tuple[Path, ...]


Job = TypeVar("Job", bound=ScanJob)


@dataclass(frozen=True)
class ConvertedScan:
    """What became of one scan: its item, or a sentence on why it failed or was left out.

    ``fingerprint`` is that of its sources, settings and conversion.
    """

    name: str
    fingerprint: str
    item: Item | None = None
    failure: str | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class ConvertedScans:
    """What became of the scans, in the order of the jobs."""

    scans: tuple[ConvertedScan, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return tuple(scan.item for scan in self.scans if scan.item is not None)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(scan.failure for scan in self.scans if scan.failure is not None)

    @property
    def left_out(self) -> tuple[str, ...]:
        return tuple(scan.left_out for scan in self.scans if scan.left_out is not None)


def convert_scans(
    jobs: Sequence[Job],
    convert: Callable[[Job, Path], Item],
    folder: Path,
    *,
    version: int,
    workers: int = 1,
) -> ConvertedScans:
    """Convert every scan, keeping those that an earlier run completed from the same sources.

    Args:
        jobs: the scans.
        convert: writes a scan's files under the folder and returns its item; a function of a
            module where there are several workers.
        folder: of the datalist.
        version: of the conversion; another one converts all scans anew.
        workers: processes.

    Raises:
        ValueError: a setting breaks its rule, or two jobs share a name.
        OSError: the folder cannot be written or the disk is full.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    check_names(jobs)
    for name in ("images", "masks", "items"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    prints = {job.name: _fingerprint(job, version) for job in jobs}
    done: dict[str, ConvertedScan] = {}
    for name, fingerprint in prints.items():
        item = finished_item(name, folder, fingerprint)
        if item is not None:
            done[name] = ConvertedScan(name, fingerprint, item=item)
    pending = [(job, prints[job.name]) for job in jobs if job.name not in done]
    make = partial(_convert_one, convert=convert, folder=folder)
    with tqdm(total=len(jobs), initial=len(done), desc="scans", unit="scan") as bar:
        for scan in map_in_workers(make, pending, workers):
            done[scan.name] = scan
            bar.update()
    return ConvertedScans(tuple(done[job.name] for job in jobs))


def scan_file_name(patient_id: str, series_uid: str) -> str:
    """A file's name for one series of a patient: letters, digits, dots and dashes."""
    patient = re.sub(r"[^A-Za-z0-9._-]+", "_", patient_id).strip(".") or "patient"
    return f"{patient}-{hashlib.sha256(series_uid.encode()).hexdigest()[:8]}"


def finished_item(name: str, folder: Path, fingerprint: str) -> Item | None:
    """The item of a scan that was converted under this fingerprint and is all there, or None."""
    try:
        record = json.loads(_item_path(name, folder).read_text(encoding="utf-8"))
        item: Item = record["item"]
        files = [folder / item[key] for key in ("image", "mask", "lungs") if key in item]
        complete = record["fingerprint"] == fingerprint and all(map(Path.is_file, files))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return item if complete else None


def check_names(jobs: Sequence[ScanJob]) -> None:
    """Raises ``ValueError`` where two jobs share a name."""
    seen: dict[str, ScanJob] = {}
    for job in jobs:
        other = seen.setdefault(job.name, job)
        if other is not job:
            raise ValueError(
                f"{job.sources[0]}: a scan must be there once, got {job.name} here and in "
                f"{other.sources[0]}"
            )


def _convert_one(
    task: tuple[Job, str], *, convert: Callable[[Job, Path], Item], folder: Path
) -> ConvertedScan:
    job, fingerprint = task
    scan = partial(ConvertedScan, job.name, fingerprint)
    try:
        item = convert(job, folder)
        record = {"fingerprint": fingerprint, "item": item}
        with replaced_file(_item_path(job.name, folder)) as part:
            part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    except LeftOut as reason:
        return scan(left_out=str(reason))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FATAL:
            raise
        return scan(failure=_sentence(error, job))
    return scan(item=item)


def _sentence(error: Exception, job: ScanJob) -> str:
    text = " ".join(str(error).split())
    # The project's own rules are ValueErrors with a full sentence; others need type and place.
    if not isinstance(error, ValueError) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    places = {place for source in job.sources for place in (source, source.parent)}
    named = any(str(place) in text for place in places)
    return text if named else f"{job.sources[0]}: {text}"


def _fingerprint(job: ScanJob, version: int) -> str:
    stamps = [stamp for source in job.sources for stamp in _stamps(source)]
    record = {"version": version, "job": asdict(job), "stamps": stamps}
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamps(source: Path) -> list[list[Any]]:
    """Name, size and time of a file or of the files in a folder; none where nothing is there."""
    if not source.exists():
        return []
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _item_path(name: str, folder: Path) -> Path:
    return folder / "items" / f"{name}.json"
