"""The setup and the files that must say the same: pins, conda, the project, CI."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import setup_environment
from setup_environment import (
    PIN_FILES,
    Setup,
    SetupError,
    check_disk,
    failure_reason,
    fingerprint,
)

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dev", "export", "openvino", "search")
TESTED_EXTRAS = ("export", "search")  # installed for the tests too
LICENCE_FIELDS = ("License", "License-Expression", "Classifier")

PACKAGES = {
    path.name
    for path in ROOT.iterdir()
    if (path / "__init__.py").is_file() and path.name not in {"tests", "runs", "data"}
}


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("file", PIN_FILES)
def test_every_requirement_is_pinned_and_installed(file: str) -> None:
    assert pins(file)
    for name, pin in pins(file).items():
        assert re.fullmatch(r"[\w.]+", pin), f"{name} must be pinned exactly, got {pin}"
        installed = importlib.metadata.version(name).partition("+")[0]
        assert installed == pin, f"{name} must be {pin} as pinned, got {installed}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_pinned_and_what_is_tested_is_installed(extra: str) -> None:
    own, tools = pins(f"requirements-{extra}.txt"), pins("requirements-dev.txt")
    assert own and all(re.fullmatch(r"[\w.]+", pin) for pin in own.values())
    if extra in TESTED_EXTRAS:
        assert own.items() <= tools.items()


def test_locus_itself_needs_no_tool_and_nothing_under_the_gpl() -> None:
    tools = {canonicalize_name(name) for name in pins("requirements-dev.txt")}
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in pins("requirements.txt")]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        distribution = importlib.metadata.distribution(name)
        found[name] = licences(distribution)
        for line in distribution.requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(needed.name))
    assert not tools & found.keys()
    # A library under the LGPL may be used as it is: connected-components-3d.
    assert not [name for name, text in found.items() if re.search(r"(?<!L)GPL", text)]
    assert "GPL" in licences(importlib.metadata.distribution("scikit-survival"))


def licences(distribution: importlib.metadata.Distribution) -> str:
    """What a package's metadata says in any of the three places; only names, no whole text."""
    fields = (distribution.metadata.get_all(key) or [] for key in LICENCE_FIELDS)
    return " ".join(text.partition("\n")[0] for texts in fields for text in texts)


def test_conda_and_the_project_read_the_same_pins() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, from_pip = conda["dependencies"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pip == "pip"
    assert from_pip == {"pip": [f"-r {file}" for file in PIN_FILES]}
    assert project["project"]["dynamic"] == ["dependencies", "optional-dependencies"]
    assert project["tool"]["setuptools"]["dynamic"] == {
        "dependencies": {"file": [PIN_FILES[0]]},
        "optional-dependencies": {
            extra: {"file": [f"requirements-{extra}.txt"]} for extra in EXTRAS
        },
    }
    oldest = project["project"]["requires-python"].removeprefix(">=")
    assert python == f"python={oldest}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert project["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_ci_runs_the_same_targets_as_a_person() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {"make lint", "make test", "set -euo pipefail"} <= set(lines)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_package_is_listed_and_imports_from_any_folder(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = {
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert listed >= PACKAGES
    code = "import importlib.util as u, sys; print(*[u.find_spec(n).origin for n in sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, *sorted(PACKAGES)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(ROOT / name / "__init__.py") for name in sorted(PACKAGES)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*PIN_FILES, "pyproject.toml", "setup_environment.py"):
        (tmp_path / name).write_text("torch==1.0\n")
    return tmp_path


@pytest.fixture
def make_setup(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Setup]]:
    """Setups whose steps only tell what they would run; making the environment is real."""
    monkeypatch.setattr(setup_environment, "NEEDED_GB", 0.0)
    with (checkout / "lock").open("w") as lock:
        yield lambda: Setup(checkout, lock)


def record_steps(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, fail: str = "", reason: str = ""
) -> list[str]:
    steps: list[str] = []

    def step(what: str, command: list[str]) -> None:
        steps.append(what)
        if what == fail:
            raise SetupError(f"{what}: {reason}")
        if what == "environment":
            subprocess.run([*command, "--without-pip"], check=True)

    monkeypatch.setattr(setup, "step", step)
    return steps


ALL_STEPS = ["environment", "torch==1.0", "the other packages", "locus itself", "MLflow store"]
MakeSetup = Callable[[], Setup]


@pytest.mark.parametrize(
    ("file", "torch"),
    [("requirements.txt", "torch==2.0"), ("requirements-dev.txt", "torch==1.0")],
)
def test_a_finished_setup_is_skipped_until_a_pin_changes(
    checkout: Path,
    make_setup: MakeSetup,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    torch: str,
) -> None:
    setup = make_setup()
    steps = record_steps(setup, monkeypatch)
    setup.run()
    assert steps == ALL_STEPS
    setup.run()
    assert steps == ALL_STEPS
    (checkout / file).write_text("torch==2.0\n")
    setup.run()
    assert steps == [*ALL_STEPS, torch, *ALL_STEPS[2:]]
    setup.run()
    assert len(steps) == len(ALL_STEPS) + 4


def test_a_setup_cut_off_is_built_anew(
    checkout: Path, make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup()
    record_steps(setup, monkeypatch, fail="the other packages", reason="the disk is full")
    with pytest.raises(SetupError, match="the disk is full"):
        setup.run()
    half_written = checkout / ".venv" / "half-written"
    half_written.touch()
    assert not setup.up_to_date()
    steps = record_steps(setup, monkeypatch)
    setup.run()
    assert steps == ALL_STEPS
    assert not half_written.exists()
    assert setup.up_to_date()


def test_without_a_registry_what_is_there_stays(
    checkout: Path, make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = make_setup()
    no_registry = setup_environment.NO_REGISTRY
    record_steps(setup, monkeypatch, fail="the other packages", reason=no_registry)
    with pytest.raises(SetupError):
        setup.run()
    assert not setup.up_to_date()
    steps = record_steps(setup, monkeypatch)
    setup.run()
    assert steps == ALL_STEPS[1:]


def test_the_fingerprint_knows_the_place_and_the_python(checkout: Path) -> None:
    assert fingerprint(checkout, (3, 11)) == fingerprint(checkout, (3, 11))
    assert fingerprint(checkout, (3, 11)) != fingerprint(checkout, (3, 12))


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"must have 1e\+09 GB free, got [\d.]+ GB"):
        check_disk(tmp_path, needed_gb=1e9)
    check_disk(tmp_path, needed_gb=0.0)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("Retrying after NewConnectionError\nERROR: No matching distribution", "registry cannot"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        ("Collecting a\nERROR: Cannot install a and b\n", "ERROR: Cannot install a and b"),
        ("", "the step failed"),
    ],
)
def test_a_failure_says_why(log: str, reason: str) -> None:
    assert reason in failure_reason(log)


def run_setup_sh(python: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "PYTHON": python}
    command = ["/bin/sh", str(ROOT / "setup.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "dirname").symlink_to("/usr/bin/dirname")
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (folder / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n')
        with (folder / name).open("a") as script:
            script.write('[ "$1" = --version ]\n')
        (folder / name).chmod(0o755)
    return folder / "python3"


def test_an_old_python_is_one_line(old_python: Path) -> None:
    done = run_setup_sh("", str(old_python.parent))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "setup failed: Locus needs Python 3.11 or newer, found Python 3.9"
    )
    assert len(done.stderr.splitlines()) == 1
    done = run_setup_sh(str(old_python), str(old_python.parent))
    assert done.stderr == (
        f"setup failed: PYTHON must be Python 3.11 or newer, got {old_python} (Python 3.9.2)\n"
    )


@pytest.mark.parametrize("missing", ["BUNDLE", "SCAN", "OUT"])
def test_make_predict_asks_for_what_is_missing(missing: str) -> None:
    values = {"BUNDLE": "risk", "SCAN": "a scan.nii.gz", "OUT": "out"}
    values[missing] = ""
    command = ["make", "predict", *(f"{name}={value}" for name, value in values.items())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    told = " ".join(f"{name}='{value}'" for name, value in values.items())
    assert done.stderr.splitlines()[0] == f"make predict needs BUNDLE, SCAN and OUT, got {told}"
