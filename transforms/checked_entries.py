"""A folder of entries that are made once, whole, and checked before they are used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

_MANIFEST = "manifest.json"

logger = logging.getLogger(__name__)

# Name, size and time of every file of an entry.
Stamps = tuple[tuple[str, int, int], ...]


class CheckedEntries:
    """Entries of a few files each, safe with any number of processes that make and use them.

    An entry is written beside its place under a lock of its own, and moved there when it is
    complete, so that neither a killed process nor a full disk leaves half of one. Its files are
    checked by their SHA-256 at its first use and after any change of their size or time; one that
    is not as it was written is made anew.

    Args:
        folder: of the entries, one folder each.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._intact: dict[str, Stamps] = {}

    def find(self, key: str) -> Path | None:
        """The folder of an entry; None where there is none or it is damaged.

        Raises:
            OSError: it may not be read.
        """
        entry = self.folder / key
        stamps = _stamps(entry)
        if stamps is None:
            return None
        if self._intact.get(key) != stamps:
            damage = _damage(entry, key)
            if damage is not None:
                logger.warning("%s is damaged and will be made anew: %s", entry, damage)
                return None
            self._intact[key] = stamps
        return entry

    def find_or_make(self, key: str, make: Callable[[], Mapping[str, bytes]]) -> Path:
        """The folder of an entry, whose files ``make`` gives by their names where it is missing.

        Of processes that want the same entry at once, one makes it and the others wait.

        Raises:
            OSError: one sentence, where the folder cannot be written or has no room.
        """
        entry = self.find(key)
        if entry is None:
            with self._lock(key):
                entry = self.find(key) or self._written(key, make())
        return entry

    def _lock(self, key: str) -> FileLock:
        folder = self.folder / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{key}.lock").touch()
        except OSError as error:
            raise self._sentence(error) from error
        return FileLock(folder / f"{key}.lock")

    def _written(self, key: str, files: Mapping[str, bytes]) -> Path:
        """Only to be called under the entry's lock: whatever is left there, no one else writes."""
        entry, part = self.folder / key, self.folder / f".partial-{key}"
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = json.dumps({"key": key, "sha256": digests}, indent=1)
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            part.mkdir()
            for name, content in files.items():
                _write(part / name, content)
            _write(part / _MANIFEST, manifest.encode())
            if entry.exists():
                shutil.rmtree(entry)  # damaged
            os.replace(part, entry)
        except OSError as error:
            raise self._sentence(error) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        stamps = _stamps(entry)
        if stamps is not None:
            self._intact[key] = stamps
        return entry

    def _sentence(self, error: OSError) -> OSError:
        return OSError(
            f"{self.folder} must be a folder that can be written and has room, got "
            f"{error.strerror or error}"
        )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _stamps(entry: Path) -> Stamps | None:
    try:
        with os.scandir(entry) as files:
            stats = sorted((file.name, file.stat()) for file in files)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _damage(entry: Path, key: str) -> str | None:
    """What about the entry is not as it was written; None if it is intact."""
    try:
        manifest = json.loads((entry / _MANIFEST).read_bytes())
        if manifest["key"] != key:
            return f"it must be of {key}, got {manifest['key']}"
        for name, digest in manifest["sha256"].items():
            with (entry / name).open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                    return f"the SHA-256 of {name} must be {digest[:8]}..., got another"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_MANIFEST} must be JSON with the SHA-256 of every file, got something else"
    return None
