from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bundles.bare_interpreter import bare_environment, bare_interpreter

FOUND = """
import json, sys
from importlib.util import find_spec
names = ("numpy", "monai", "bundles", "networks", "transforms", "handlers")
print(json.dumps([name for name in names if find_spec(name)]))
"""


def test_it_has_the_installed_packages_and_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    command = [str(bare_interpreter(tmp_path / "python")), "-c", FOUND]

    def found(folder: Path) -> list[str]:
        made = subprocess.run(
            command, cwd=folder, env=bare_environment(), check=True, capture_output=True
        )
        return json.loads(made.stdout)

    assert found(tmp_path) == ["numpy", "monai"]
    # As any Python, it finds what lies in the working folder.
    assert set(found(checkout)) > {"numpy", "monai", "bundles", "networks"}
