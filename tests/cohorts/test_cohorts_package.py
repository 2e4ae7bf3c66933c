from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import cohorts


def test_every_public_name_is_found() -> None:
    assert cohorts.__all__ == sorted([*cohorts._HOMES, "scan_items"])
    modules = [module.name for module in pkgutil.iter_modules(cohorts.__path__)]
    # Importing a module puts it into the package, in the place of a public name that it shares:
    # such a name cannot wait for its first use.
    assert not set(modules) & set(cohorts._HOMES)
    for module in modules:
        importlib.import_module(f"cohorts.{module}")
    assert all(getattr(cohorts, name).__name__ == name for name in cohorts.__all__)


def test_reading_a_datalist_does_not_load_torch() -> None:
    code = "import sys, cohorts; cohorts.load_datalist; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_module_says_in_one_line_what_it_is() -> None:
    for path in Path(cohorts.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert "\n" not in (ast.get_docstring(tree) or "\n"), path.name
        assert ast.unparse(tree.body[1]) == "from __future__ import annotations", path.name
