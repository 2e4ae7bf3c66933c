"""An interpreter that has the installed packages, and of Locus only what it is shown."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import venv
from pathlib import Path


def bare_interpreter(folder: Path) -> Path:
    """Make a virtual environment in ``folder``, and return its Python.

    Its packages are those of the interpreter that runs, with no copy made. An editable install is
    not among them: a path that a ``.pth`` file names is searched, the ``.pth`` files in it are not
    read. So what a packed bundle imports of Locus can only come from the bundle.
    """
    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False).create(folder)
    own = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    installed = {*site.getsitepackages(), sysconfig.get_path("purelib"), site.getusersitepackages()}
    lines = [path for path in sys.path if path in installed]
    (Path(own) / "installed.pth").write_text("".join(f"{line}\n" for line in lines))
    scripts = sysconfig.get_path("scripts", "venv", vars={"base": str(folder)})
    return Path(scripts) / Path(sys.executable).name


def bare_environment() -> dict[str, str]:
    """This process's environment without what would show Python further modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
