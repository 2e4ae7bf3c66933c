"""The code that packed bundles share in one process: one version of it, found on first use.

This file lies at the top of every packed bundle, beside the modules that the bundle uses and a
``shared_code.json`` that tells the version. It imports nothing of Locus.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, overload

RECORD = "shared_code.json"
_FOLDER = Path(__file__).resolve().parent


class SharedCodeError(RuntimeError):
    """Code of two versions, or code that was changed, would run in one process."""


def code_digest(modules: Mapping[str, str], packages: Mapping[str, str]) -> str:
    """One SHA-256 for all files of a version.

    Args:
        modules: SHA-256 of each module's file, by the module's name.
        packages: SHA-256 of the ``__init__.py`` that a packed bundle has instead, by the
            package's name.
    """
    text = json.dumps([dict(modules), dict(packages)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def require(digest: str) -> str:
    """Make sure that a bundle runs the code that it was packed with; the folder of that code.

    Raises:
        SharedCodeError: ``digest`` is of another version than the code that this process has
            begun to use, or one of the files is not as it was packed.
    """
    record = _record(_FOLDER)
    if record["digest"] != code_digest(record["modules"], record["packages"]):
        raise SharedCodeError(f"{_FOLDER / RECORD}: the file must be as it was packed")
    if record["digest"] != digest:
        raise SharedCodeError(
            "packed bundles in one process must share one version of their code, got version "
            f"{digest[:12]} after {record['digest'][:12]} of {_FOLDER}"
        )
    importlib.invalidate_caches()
    for name, expected in record["modules"].items():
        found = importlib.util.find_spec(name)
        if found is None:
            continue  # a module that no bundle here uses
        allowed = {expected, record["packages"].get(name)}
        if found.origin is None or _sha256(Path(found.origin)) not in allowed:
            raise SharedCodeError(
                f"{name} must be the file that was packed with {_FOLDER}, got {found.origin}"
            )
    return str(_FOLDER)


def lazy_package(name: str, homes: Mapping[str, str]) -> None:
    """Turn the package ``name`` into one whose public names are imported on first use.

    Its modules are looked for in every packed bundle of the same version on ``sys.path``, since a
    bundle has only those modules that it uses.

    Args:
        name: of a package that is being imported.
        homes: the module of each public name.
    """
    package = sys.modules[name]
    package.__dict__["_homes"] = dict(homes)
    package.__dict__["__path__"] = _SharedPath(name)
    package.__class__ = _LazyPackage


class _LazyPackage(ModuleType):
    _homes: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._homes[name]), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of a module puts it into its package under its name; where a function has
        # the same name, the function is what the package offers.
        if not (isinstance(value, ModuleType) and name in self._homes):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._homes})


class _SharedPath(Sequence[str]):
    """The folders of one package in all bundles of this version that are on ``sys.path`` now."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __iter__(self) -> Iterator[str]:
        return iter([str(folder / self._package) for folder in _folders()])

    def __len__(self) -> int:
        return len(_folders())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return list(self)[index]


def _folders() -> list[Path]:
    """Packed bundles of this version: this one, then those on ``sys.path``."""
    own = _record(_FOLDER)["digest"]
    found = [_FOLDER]
    for entry in sys.path:
        folder = Path(entry).resolve()
        if folder in found or not (folder / RECORD).is_file():
            continue
        if _record(folder).get("digest") == own:
            found.append(folder)
    return found


@cache
def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SharedCodeError(f"{folder / RECORD}: must be readable, got {error}") from error
    return record


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
