"""Make .venv hold what PIN_FILES pin; standard library only, run by setup.sh.

A stamp written last says what .venv was made from, so that a finished setup is skipped. A marker
stands while packages are being written; where it is found again, the setup was cut off, and the
half-made .venv is rebuilt (what pip had downloaded by then is in its cache).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).resolve().parent
PIN_FILES = ("requirements.txt", "requirements-dev.txt")
NEEDED_GB = 4.0
HEARTBEAT_S = 20.0

NO_REGISTRY = "the package registry cannot be reached"

# The first pattern found in what the failed step logged names the reason.
REASONS = (
    (("No space left on device",), "the disk is full"),
    (
        (
            "NewConnectionError",
            "ConnectTimeoutError",
            "ConnectionResetError",
            "Max retries exceeded",
            "ProxyError",
            "Read timed out",
            "name resolution",
        ),
        NO_REGISTRY,
    ),
    (("ensurepip",), "this Python cannot make environments (Debian: apt install python3-venv)"),
)


class SetupError(Exception):
    """One sentence for the person who ran the setup."""


def fingerprint(root: Path, python_version: Sequence[int]) -> str:
    """Hash of all that .venv is made from: pins, project, these steps, Python and the place."""
    digest = hashlib.sha256(f"{root} {python_version[0]}.{python_version[1]}".encode())
    for name in (*PIN_FILES, "pyproject.toml", "setup_environment.py"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def failure_reason(log_tail: str) -> str:
    """Say in a few words why a step failed, from the end of its log."""
    for patterns, reason in REASONS:
        if any(pattern in log_tail for pattern in patterns):
            return reason
    errors = [line for line in log_tail.splitlines() if line.lower().startswith("error")]
    return errors[-1] if errors else "the step failed"


def check_disk(folder: Path, needed_gb: float = NEEDED_GB) -> None:
    """Raise SetupError where less than `needed_gb` are free."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < needed_gb:
        raise SetupError(f"{folder} must have {needed_gb:g} GB free, got {free_gb:.1f} GB")


def venv_runs(venv: Path, python_version: Sequence[int]) -> bool:
    """Whether the environment's own Python starts and is of the wanted version."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(venv / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return done.stdout.split() == [str(part) for part in python_version[:2]]


class Setup:
    """The steps of one setup of `root`/.venv, logged to .venv/setup.log.

    Args:
        root: the checkout.
        lock: the open lock file; pip inherits it, so that no second setup starts beside a pip
            whose own setup was killed.
    """

    def __init__(self, root: Path, lock: IO[str]) -> None:
        self.root = root
        self.lock = lock
        self.venv = root / ".venv"
        self.log = self.venv / "setup.log"
        self.stamp = self.venv / "setup.stamp"
        self.marker = self.venv / "setup.unfinished"
        self.version = sys.version_info[:2]

    def up_to_date(self) -> bool:
        """Whether a finished setup from the same pins is there and its Python still starts."""
        return (
            not self.marker.exists()
            and self.stamp.is_file()
            and self.stamp.read_text() == fingerprint(self.root, self.version)
            and venv_runs(self.venv, self.version)
        )

    def run(self) -> None:
        """Bring .venv up to date.

        Raises:
            SetupError: no room, no registry, or a step that failed.
        """
        if self.up_to_date():
            return
        start = time.monotonic()
        if self.marker.exists() or not venv_runs(self.venv, self.version):
            if self.venv.exists():
                say("the .venv found is half-made or of another Python and is built anew")
                shutil.rmtree(self.venv)
            check_disk(self.root)
            say(f"installing into {self.venv} (a few minutes, log in .venv/setup.log)")
        self.venv.mkdir(exist_ok=True)
        self.stamp.unlink(missing_ok=True)
        self.marker.touch()
        self.log.write_text("")
        self.install()
        self.stamp.write_text(fingerprint(self.root, self.version))
        self.marker.unlink()
        say(f"ready in {time.monotonic() - start:.0f} s")

    def install(self) -> None:
        """Write the packages: torch first, so that nothing that follows picks another build."""
        python = str(self.venv / "bin" / "python")
        pins = (self.root / PIN_FILES[0]).read_text()
        torch = next(line for line in pins.splitlines() if line.startswith("torch=="))
        pip = [python, "-m", "pip", "install", "--progress-bar", "off", "--no-input"]
        if not venv_runs(self.venv, self.version):
            self.step("environment", [sys.executable, "-m", "venv", str(self.venv)])
        try:
            self.step(torch, [*pip, torch])
            lists = [part for name in PIN_FILES for part in ("-r", str(self.root / name))]
            self.step("the other packages", [*pip, *lists])
            editable = ["--no-deps", "--no-build-isolation", "-e", str(self.root)]
            self.step("locus itself", [*pip, *editable])
        except SetupError as error:
            if NO_REGISTRY in str(error):
                self.marker.unlink()  # pip downloads all before it writes: .venv is as it was
            raise
        store = "from handlers.mlflow_store import ensure_all; ensure_all()"
        self.step("MLflow store", [python, "-c", store])

    def step(self, what: str, command: Sequence[str]) -> None:
        """Run one command into the log, with a line when it ends and one now and then before."""
        start = time.monotonic()
        environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        with self.log.open("a") as log:
            log.write(f"\n--- {what}\n")
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self.lock.fileno()],
            )
            try:
                while wait(process) is None:
                    say(f"{what}: {time.monotonic() - start:.0f} s so far")
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            with self.log.open() as log:
                log.seek(begin)
                reason = failure_reason(log.read())
            raise SetupError(f"{what}: {reason} (see {self.log})")
        say(f"{what}: done in {time.monotonic() - start:.0f} s")


def wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or None after a heartbeat's time without one."""
    try:
        return process.wait(HEARTBEAT_S)
    except subprocess.TimeoutExpired:
        return None


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def stop(_signal_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Set up the checkout that this file stands in; return the exit code."""
    signal.signal(signal.SIGTERM, stop)
    try:
        with open(ROOT / ".setup.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another setup of this folder is under way, waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            Setup(ROOT, lock).run()
    except KeyboardInterrupt:
        print("setup interrupted; the next make finishes it", file=sys.stderr)
        return 130
    except (SetupError, OSError) as error:
        print(f"setup failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
