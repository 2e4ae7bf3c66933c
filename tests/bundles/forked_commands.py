"""Commands of ``python -m monai.bundle``, each from a working folder of its own, at one start-up.

A script for an interpreter without Locus. Importing MONAI and what it needs takes most of the time
of a short command, so it is done once, and each job is a fork: to Locus's modules it is as fresh as
a process of its own, and its ``sys.path`` begins with its working folder, as ``-m`` has it.

Standard input: JSON list of ``{"name", "folder", "arguments"}``, or ``"code"`` in place of the
arguments. Into the folder that the first argument names go ``<name>.log``, and ``<name>.json`` with
the exit ``code`` and the ``modules`` of Locus that were imported, with their files.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

STARTED = (
    "cc3d",
    "ignite.handlers",
    "matplotlib.pyplot",
    "mlflow",
    "monai.bundle.__main__",
    "nibabel",
    "pydicom",
    "scipy.ndimage",
    "skimage.measure",
    "sklearn.metrics",
)
LOCUS = (
    *("bundles", "cohorts", "handlers", "losses", "metrics", "networks", "transforms"),
    "shared_code",
)


def _locus_modules() -> dict[str, str]:
    return {
        name: str(getattr(module, "__file__", None))
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in LOCUS
    }


def _run(job: dict[str, Any], output: Path) -> None:
    """In the child: never returns."""
    code = 1
    try:
        log = os.open(output / f"{job['name']}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(job["folder"])
        sys.path[0] = job["folder"]
        if "code" in job:
            exec(job["code"], {"__name__": "__main__"})
        else:
            sys.argv = ["monai.bundle", *job["arguments"]]
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        result = {"code": code, "modules": _locus_modules()}
        (output / f"{job['name']}.json").write_text(json.dumps(result))
        os._exit(code)


def main() -> None:
    output = Path(sys.argv[1]).resolve()
    for name in STARTED:
        importlib.import_module(name)
    assert not _locus_modules()
    for job in json.load(sys.stdin):
        process = os.fork()
        if process == 0:
            _run(job, output)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
