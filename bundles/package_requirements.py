"""The packages that a packed bundle needs, with the versions of requirements.txt."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from bundles.used_modules import CODE_ROOT, PACKAGES, imported_packages

# metadata.json has keys of their own for these.
OWN_KEYS = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
# MONAI's command line and Ignite's progress bar import them, not we.
BY_MONAI = {"fire", "tqdm"}


# What runs an exported network, for those who want it.
EXTRAS = ("requirements-export.txt", "requirements-openvino.txt")


def pinned_versions(file: str = "requirements.txt") -> dict[str, str]:
    """Package and version of every line of a file beside the packages."""
    lines = (CODE_ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = (line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    return {package.strip(): version.strip() for package, version in pins}


def required_packages(files: Iterable[Path]) -> dict[str, str]:
    """Pinned packages that ``files`` import, MONAI, torch and NumPy apart.

    Raises:
        ValueError: a file imports what requirements.txt does not pin.
    """
    pins = pinned_versions()
    installed = _distributions()
    needed = set(BY_MONAI)
    for name in sorted(imported_packages(files) - sys.stdlib_module_names - {*PACKAGES}):
        pinned = [package for package in installed.get(name, []) if package in pins]
        if not pinned:
            raise ValueError(f"requirements.txt must pin what a bundle imports, got no {name}")
        needed.update(pinned)
    return {package: pins[package] for package in sorted(needed - set(OWN_KEYS), key=str.lower)}


def optional_packages(files: Iterable[Path]) -> dict[str, str]:
    """Packages of the extras that ``files`` ask for with MONAI's ``optional_import``."""
    calls = (
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "optional_import"
    )
    asked = {ast.literal_eval(call.args[0]) for call in calls}
    pins = {name: pin for file in EXTRAS for name, pin in pinned_versions(file).items()}
    return {name: pins[name] for name in sorted(asked & set(pins))}


@cache
def _distributions() -> dict[str, list[str]]:
    """The packages that each importable name may come from; finding them takes seconds."""
    return {name: list(found) for name, found in packages_distributions().items()}
