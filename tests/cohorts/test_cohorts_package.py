from __future__ import annotations

import importlib
import subprocess
import sys

import cohorts


def test_every_public_name_is_found() -> None:
    assert cohorts.__all__ == sorted([*cohorts._HOMES, "scan_items"])
    # A module of the same name must not take the place of a function.
    importlib.import_module("cohorts.scan_items")
    assert all(getattr(cohorts, name).__name__ == name for name in cohorts.__all__)


def test_reading_a_datalist_does_not_load_torch() -> None:
    code = "import sys, cohorts; cohorts.load_datalist; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
