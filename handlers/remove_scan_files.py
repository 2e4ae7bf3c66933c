"""The files of one scan among those of others."""

from __future__ import annotations

import re
from pathlib import Path


def remove_scan_files(folder: Path, name: str, endings: str) -> None:
    """Removes ``<name>_<ending>`` from ``folder``, but no file of a scan whose name begins alike.

    Args:
        folder: of the results of many scans.
        name: of the scan in the files' names.
        endings: a regular expression of the whole rest.
    """
    of_the_scan = re.compile(f"{re.escape(name)}_(?:{endings})")
    for path in folder.iterdir():
        if of_the_scan.fullmatch(path.name):
            path.unlink()
