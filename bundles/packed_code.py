"""The modules that a package carries, and the record of the version that they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bundles import shared_code
from bundles.used_modules import CODE_ROOT, PACKAGES, public_homes, shared_modules, used_modules


class PackedCode(NamedTuple):
    """Code for one package.

    Attributes:
        digest: of the version, the same for every bundle that is packed from it.
        files: content by path in the package.
        sources: the repository's files among them.
    """

    digest: str
    files: dict[str, bytes]
    sources: list[Path]


def packed_code(configs: Iterable[Any], root: Path = CODE_ROOT) -> PackedCode:
    """The modules of the repository in ``root`` that ``configs`` use, and the shared code's record.

    Raises:
        ValueError: a config names what the packages do not have.
    """
    modules = shared_modules(root)
    own = Path(shared_code.__file__)
    packages = {name: _lazy_init(public_homes(name, root)) for name in PACKAGES}
    hashes = {name: _sha256(path.read_bytes()) for name, path in modules.items()}
    hashes["shared_code"] = _sha256(own.read_bytes())
    lazy_hashes = {name: _sha256(text) for name, text in packages.items()}
    digest = shared_code.code_digest(hashes, lazy_hashes)
    record = {"digest": digest, "modules": hashes, "packages": lazy_hashes}
    sources = [modules[name] for name in sorted(used_modules(configs, root))]
    files = {str(path.relative_to(root).as_posix()): path.read_bytes() for path in sources}
    files |= {f"{name}/__init__.py": text for name, text in packages.items()}
    files[own.name] = own.read_bytes()
    files[shared_code.RECORD] = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    return PackedCode(digest, files, sources)


def _lazy_init(homes: Mapping[str, str]) -> bytes:
    names = "".join(f'    "{name}": "{homes[name]}",\n' for name in sorted(homes))
    return (
        '"""Public names of this package, each imported on first use."""\n\n'
        "import shared_code\n\n"
        f"_HOMES = {{\n{names}}}\n"
        "__all__ = list(_HOMES)\n\n"
        "shared_code.lazy_package(__name__, _HOMES)\n"
    ).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
