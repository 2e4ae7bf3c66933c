from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from bundles.bundle_config import bundle_names, config_files, merged_config
from bundles.flat_config import overlay_configs
from bundles.package_requirements import optional_packages, pinned_versions, required_packages
from bundles.used_modules import (
    CODE_ROOT,
    PACKAGES,
    imported_packages,
    public_homes,
    shared_modules,
    used_modules,
)

FILES = {
    "networks/__init__.py": """
        from networks.net import Net, helper
        from networks.other import Other
        __all__ = ["Net", "Other", "helper"]
    """,
    "networks/net.py": """
        from typing import TYPE_CHECKING
        import torch
        from networks.parts import block
        if TYPE_CHECKING:
            from networks.typed import Typed
        else:
            import networks.untyped
        class Net: ...
        def helper(): ...
    """,
    "networks/parts.py": "def block(): from transforms import crop",
    "networks/other.py": "class Other: ...",
    "networks/typed.py": "class Typed: ...",
    "networks/untyped.py": "",
    # A function and its module of the same name, and one that the package offers from elsewhere.
    "transforms/__init__.py": """
        from transforms.crop import crop
        __all__ = ["crop"]
    """,
    "transforms/crop.py": "import scipy.ndimage\ndef crop(): ...",
    "transforms/unused.py": "",
    "metrics/__init__.py": "__all__ = []",
    "metrics/inner/deep.py": "VALUE = 1",
    "losses/__init__.py": "__all__ = []",
    "handlers/__init__.py": "__all__ = []",
    "cohorts/__init__.py": "__all__ = []",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.splitlines()))
    return tmp_path


def test_a_target_brings_its_module_and_all_that_this_imports(root: Path) -> None:
    config = {"network_def": {"_target_": "networks.Net"}}
    # parts by an import at the top, crop by one within a function and through a re-export, and
    # untyped by the branch that runs; typed is imported for mypy alone.
    expected = {"networks.net", "networks.parts", "networks.untyped", "transforms.crop"}
    assert used_modules([config], root) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"network_def::_target_": "networks.Other"}, {"networks.other"}),
        ({"a": ["$1 + metrics.inner.deep.VALUE"]}, {"metrics.inner.deep"}),
        ({"a": "$(transforms.crop, @networks.Net, monai.networks.Net)"}, {"transforms.crop"}),
        ({"a": {"_target_": "transforms.crop.crop", "_mode_": "callable"}}, {"transforms.crop"}),
        ({"_target_": "monai.losses.DiceLoss", "text": "see networks.Net"}, set()),
        ({}, set()),
    ],
)
def test_names_in_configs(root: Path, config: dict[str, Any], expected: set[str]) -> None:
    assert used_modules([config], root) == expected


def test_a_name_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"a module of networks, got networks\.Nett"):
        used_modules([{"_target_": "networks.Nett"}], root)


def test_public_names_come_from_where_they_are_imported(root: Path) -> None:
    homes = {"Net": "networks.net", "Other": "networks.other", "helper": "networks.net"}
    assert public_homes("networks", root) == homes
    (root / "losses/__init__.py").write_text('__all__ = ["made_here"]\n')
    with pytest.raises(ValueError, match=r"losses.*imported from its module, got made_here"):
        public_homes("losses", root)


def test_imported_packages_are_those_at_the_top_and_within_functions(root: Path) -> None:
    files = [root / "networks/net.py", root / "networks/parts.py", root / "transforms/crop.py"]
    assert imported_packages(files) == {"networks", "scipy", "torch", "transforms", "typing"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_of_the_repository_is_found_where_it_is_said_to_be(package: str) -> None:
    modules = shared_modules()
    for name, home in public_homes(package).items():
        body = ast.parse(modules[home].read_text()).body
        made = {getattr(node, "name", "") for node in body}
        made |= {
            ast.unparse(target)
            for node in body
            for target in getattr(node, "targets", [getattr(node, "target", ast.Pass())])
        }
        assert name in made, f"{package}.{name}"


@pytest.mark.parametrize("bundle", bundle_names())
def test_a_bundle_takes_what_it_uses(bundle: str) -> None:
    flat = [merged_config(config_files(bundle, each, [])) for each in ("train", "inference")]
    used = used_modules([*flat, *overlay_configs(bundle).values()])
    network = {
        "lung_ct_cancer_risk": "risk_classifier",
        "lung_ct_nodule_detection": "nodule_detector",
        "lung_ct_nodule_segmentation": "pooled_segmenter",  # of an overlay
    }
    assert {name for name in network.values() if f"networks.{name}" in used} == {network[bundle]}
    assert {"transforms.load_scan", "handlers.scan_writer", "cohorts.datalist"} <= used
    # Readers of collections and phantoms make datalists; a bundle reads them.
    assert used.isdisjoint({"cohorts.lidc", "cohorts.phantom", "cohorts.nlst"})
    files = [shared_modules()[name] for name in used]
    needed = required_packages(files)
    assert {"mlflow", "nibabel", "pytorch-ignite", "scipy", "tqdm"} <= set(needed)
    assert needed.items() <= pinned_versions().items()
    assert needed.keys().isdisjoint({"monai", "torch", "numpy", "pylidc", "pytest"})


def test_an_import_without_a_pin_is_refused(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("import _pytest\n")
    with pytest.raises(ValueError, match=r"requirements\.txt must pin.*got no _pytest"):
        required_packages([module])


def test_optional_imports_are_named_with_their_pins(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("runtime, there = optional_import('onnxruntime')\noptional_import('json')\n")
    pin = pinned_versions("requirements-export.txt")["onnxruntime"]
    assert optional_packages([module]) == {"onnxruntime": pin}
    assert optional_packages([]) == {}


def test_the_repository_is_the_root() -> None:
    assert (CODE_ROOT / "pyproject.toml").is_file()
