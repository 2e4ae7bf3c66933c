"""Scans that an inference is done with, so that it can go on where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from cohorts.scan_hash import scan_hash
from handlers.write_json import write_json

FOLDER = "records"


class ScanRecord(NamedTuple):
    """What is kept of a scan: its entry in ``predictions.json``, its files, its table's rows."""

    entry: dict[str, Any]
    files: list[str]
    rows: list[list[Any]]


def scan_fingerprint(scan: str, settings: Any) -> str:
    """Hash of the path, size and time of a scan or of its slices, and of JSON values beside."""
    # The hash sees a folder's slices where its path is absolute.
    own = scan_hash({"image": str(Path(scan).resolve())})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + own).hexdigest()[:32]


def keep_record(folder: Path, name: str, fingerprint: str, record: ScanRecord) -> None:
    """Keeps a scan in ``records/`` of the inference's folder.

    Raises:
        OSError: it cannot be written.
    """
    path = record_path(folder, name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"fingerprint": fingerprint, **record._asdict()})


def kept_record(folder: Path, name: str, fingerprint: str) -> ScanRecord | None:
    """What was kept of a scan under this fingerprint, if its files are all there."""
    try:
        content = json.loads(record_path(folder, name).read_text(encoding="utf-8"))
        record = ScanRecord(content["entry"], content["files"], content["rows"])
        whole = content["fingerprint"] == fingerprint
        whole = whole and all((folder / file).is_file() for file in record.files)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def record_path(folder: Path, name: str) -> Path:
    """Where a scan's record is."""
    return folder / FOLDER / f"{name}.json"
