"""Small packages, packed and imported in an interpreter of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bundles import shared_code
from bundles.packed_code import packed_code
from bundles.used_modules import PACKAGES

NETWORKS = """\
from networks.one import ONE, One
from networks.two import Two
__all__ = ["ONE", "One", "Two"]
"""
FILES = {
    **{f"{package}/__init__.py": "__all__ = []\n" for package in PACKAGES},
    "networks/__init__.py": NETWORKS,
    "networks/one.py": "from transforms import same\nONE = 1\nclass One:\n    same = same\n",
    "networks/two.py": "import networks.one\nfrom networks import ONE\nclass Two:\n    one = ONE\n",
    "transforms/__init__.py": 'from transforms.same import same\n__all__ = ["same"]\n',
    "transforms/same.py": "def same():\n    return 'same'\n",
}
ONE, TWO = {"_target_": "networks.One"}, {"_target_": "networks.Two"}


def _pack(source: Path, target: Path, config: dict[str, str]) -> str:
    code = packed_code([config], source)
    for name, content in code.files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return code.digest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def digest(source: Path, tmp_path: Path) -> str:
    """Of two bundles of one version: ``a`` uses One, ``b`` Two, which uses One."""
    first = _pack(source, tmp_path / "a", ONE)
    assert _pack(source, tmp_path / "b", TWO) == first
    return first


def _python(folder: Path, code: str) -> str:
    # -I: neither the working folder nor PYTHONPATH; -S: nor the checkout.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_a_bundle_has_only_what_it_uses(digest: str, tmp_path: Path) -> None:
    files = {str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*.py")}
    inits = {f"{package}/__init__.py" for package in PACKAGES}
    assert files == inits | {"shared_code.py", "networks/one.py", "transforms/same.py"}


def test_names_are_imported_on_first_use(digest: str, tmp_path: Path) -> None:
    code = f"""
sys.path.insert(0, "a")
import shared_code
shared_code.require("{digest}")
import networks, transforms
loaded = {{"networks.one", "transforms.same"}} & set(sys.modules)
import transforms.same
# The module of the same name does not hide the function.
print(sorted(loaded), transforms.same(), networks.ONE, sorted(networks.__all__))
print(networks.One.same(), networks.ONE is networks.ONE, "Two" in dir(networks))
try:
    networks.Three
except AttributeError as error:
    print(error)
from networks import Two
"""
    lines = _python(tmp_path, code).splitlines()
    assert lines[:3] == [
        "[] same 1 ['ONE', 'One', 'Two']",
        "same True True",
        "module 'networks' has no attribute 'Three'",
    ]
    assert lines[-1] == "ModuleNotFoundError: No module named 'networks.two'"


def test_two_bundles_of_one_version_share_their_modules(digest: str, tmp_path: Path) -> None:
    code = f"""
import importlib
for folder, name in (("a", "One"), ("b", "Two")):
    sys.path.insert(0, folder)
    importlib.import_module("shared_code").require("{digest}")
    print(getattr(importlib.import_module("networks"), name).__name__)
from pathlib import Path
print(*(Path(sys.modules[name].__file__).parts[-3] for name in ("networks.one", "networks.two")))
print([Path(folder).parts[-2] for folder in sys.modules["networks"].__path__])
print(len(sys.modules["networks"].__path__), sys.modules["networks"].__path__[0][-1])
"""
    expected = ["One", "Two", "a b", "['a', 'b']", "2 s"]
    assert _python(tmp_path, code).splitlines() == expected


def test_a_bundle_of_another_version_is_refused(digest: str, source: Path, tmp_path: Path) -> None:
    # In a module that neither of the bundles uses.
    (source / "losses/new.py").write_text("NEW = 1\n")
    other = _pack(source, tmp_path / "c", TWO)
    assert other != digest
    code = f"""
sys.path.insert(0, "a")
import shared_code
shared_code.require("{digest}")
sys.path.insert(0, "c")
import networks
print(networks.One.__name__)
try:
    networks.Two  # only c has it, and its version is another
except ModuleNotFoundError as error:
    print(error)
shared_code.require("{other}")
"""
    lines = _python(tmp_path, code).splitlines()
    assert lines[:2] == ["One", "No module named 'networks.two'"]
    assert lines[-1] == (
        "shared_code.SharedCodeError: packed bundles in one process must share one version of "
        f"their code, got version {other[:12]} after {digest[:12]} of {tmp_path / 'a'}"
    )


def test_a_file_that_was_changed_is_refused(digest: str, tmp_path: Path) -> None:
    changed = tmp_path / "a/transforms/same.py"
    changed.write_text(changed.read_text() + "# changed\n")
    code = f"""
sys.path[:0] = ["a", "b"]
import shared_code
shared_code.require("{digest}")
"""
    last = _python(tmp_path, code).splitlines()[-1]
    assert last == (
        "shared_code.SharedCodeError: transforms.same must be the file that was packed with "
        f"{tmp_path / 'a'}, got {changed}"
    )


def test_a_record_that_was_changed_is_refused(digest: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / shared_code.RECORD
    record = json.loads(path.read_text())
    record["modules"]["networks.one"] = "0" * 64
    path.write_text(json.dumps(record))
    code = f'sys.path.insert(0, "a")\nimport shared_code\nshared_code.require("{digest}")'
    assert _python(tmp_path, code).splitlines()[-1].endswith("the file must be as it was packed")


def test_a_package_of_someone_else_is_refused(digest: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs/networks/__init__.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("")
    code = f"""
sys.path[:0] = ["theirs", "a"]
import networks, shared_code
shared_code.require("{digest}")
"""
    last = _python(tmp_path, code).splitlines()[-1]
    assert "networks must be the file that was packed" in last and str(theirs) in last


def test_the_repository_that_was_packed_may_be_loaded_before(
    digest: str, source: Path, tmp_path: Path
) -> None:
    code = f"""
sys.path[:0] = ["source", "a"]
import networks, shared_code
shared_code.require("{digest}")
print(networks.One.same(), networks.Two.one)
"""
    assert _python(tmp_path, code) == "same 1\n"
    (source / "networks/two.py").write_text("class Two:\n    one = 2\n")
    last = _python(tmp_path, code).splitlines()[-1]
    assert "networks.two must be the file that was packed" in last


def test_the_digest_is_of_names_and_contents() -> None:
    one = shared_code.code_digest({"a": "1", "b": "2"}, {"p": "3"})
    assert one == shared_code.code_digest({"b": "2", "a": "1"}, {"p": "3"})
    others = [
        ({"a": "2", "b": "1"}, {"p": "3"}),
        ({"a": "1"}, {"p": "3"}),
        ({"a": "1", "b": "2"}, {}),
    ]
    assert one not in [shared_code.code_digest(*each) for each in others]
