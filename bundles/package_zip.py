"""A zip whose bytes depend on nothing but the files in it, and the manifest that proves them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from cohorts.replaced_file import replaced_file

MANIFEST = "manifest.sha256"


def manifest(files: Mapping[str, bytes]) -> bytes:
    """SHA-256 and name of each file, sorted, as ``sha256sum -c`` reads them."""
    digests = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(digests).encode()


def write_zip(path: Path, folder: str, files: Mapping[str, bytes]) -> None:
    """Write ``files`` below ``folder`` into a zip; ``path`` is replaced whole or not at all.

    Names are sorted, times and permissions the same everywhere, and nothing is compressed: no two
    versions of zlib promise the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    with replaced_file(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{folder}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, which the permissions are of
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
