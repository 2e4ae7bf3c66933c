"""Which of the repository's modules a bundle's configs use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bundles.bundle_config import BUNDLES_ROOT

CODE_ROOT = BUNDLES_ROOT.parent
# What a bundle may take along.
PACKAGES = ("cohorts", "handlers", "losses", "metrics", "networks", "transforms")
_NAME = re.compile(rf"(?<![\w.@:/])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")


def shared_modules(root: Path = CODE_ROOT) -> dict[str, Path]:
    """The file of every module of the packages in ``root``, by the module's dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def public_homes(package: str, root: Path = CODE_ROOT) -> dict[str, str]:
    """The module that each public name of a package comes from, as its ``__init__.py`` imports it.

    Raises:
        ValueError: a public name is not imported under its own name.
    """
    tree = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
    homes: dict[str, str] = {}
    public: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            homes |= {each.name: node.module for each in node.names if each.asname is None}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = ast.literal_eval(node.value)
    strange = sorted(set(public) - set(homes))
    if strange:
        raise ValueError(
            f"{package}/__init__.py: a public name must be imported from its module, "
            f"got {', '.join(strange)}"
        )
    return {name: homes[name] for name in public}


def used_modules(configs: Iterable[Any], root: Path = CODE_ROOT) -> set[str]:
    """Modules that configs name as targets or in expressions, and all that these import.

    A package of which names are used is not among them: its names are, each by its module.

    Raises:
        ValueError: a config names what the packages do not have.
    """
    modules = shared_modules(root)
    homes = {package: public_homes(package, root) for package in PACKAGES}
    waiting = {
        _module_of(name, modules, homes) for config in configs for name in _config_names(config)
    }
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        found.add(module)
        imported = _imported_names(modules[module])
        waiting |= {_module_of(name, modules, homes) for name in imported} - found
    return found


def imported_packages(files: Iterable[Path]) -> set[str]:
    """Top-level names of all that ``files`` import, at the top or within functions."""
    return {name.split(".")[0] for path in files for name, _ in _imports(path)}


def _config_names(config: Any) -> Iterator[str]:
    """Dotted names of our packages in the targets and expressions of a config."""
    if isinstance(config, dict):
        for key, value in config.items():
            # An overlay may change the target alone: network_def::_target_.
            if str(key).endswith("_target_") and isinstance(value, str):
                yield from _NAME.findall(value)
            else:
                yield from _config_names(value)
    elif isinstance(config, list):
        for value in config:
            yield from _config_names(value)
    elif isinstance(config, str) and config.startswith("$"):
        yield from _NAME.findall(config)


def _module_of(
    name: str, modules: Mapping[str, Path], homes: Mapping[str, Mapping[str, str]]
) -> str:
    package, _, rest = name.partition(".")
    if rest in homes[package]:
        return homes[package][rest]
    parts = name.split(".")
    for end in range(len(parts), 1, -1):
        if (module := ".".join(parts[:end])) in modules:
            return module
    raise ValueError(f"a config must name a public name or a module of {package}, got {name}")


def _imported_names(path: Path) -> Iterator[str]:
    """Dotted names of our packages that a module imports when it runs."""
    for module, name in _imports(path):
        if module.split(".")[0] in PACKAGES:
            yield module if name is None or "." in module else f"{module}.{name}"


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each imported module, with the name that is taken from it, or None."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((each.name, None) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module is None or node.level:
                raise ValueError(f"{path}: an import must name its package in full")
            yield from ((node.module, each.name) for each in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
