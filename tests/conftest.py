from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gdcm
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real scans are not here: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def compress_dicom() -> Callable[[Path, int], None]:
    """Compresses a DICOM file in place, to one of gdcm's transfer syntaxes."""

    def compress(file: Path, syntax: int) -> None:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(file))
        change, writer = gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        assert reader.Read()
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(file))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()

    return compress


@pytest.fixture
def terminal_signals() -> Iterator[None]:
    """Signals as a terminal has them: a CI that starts tests in the background ignores some."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGHUP, hangup)


@pytest.fixture(scope="session")
def at_once() -> Callable[..., list[int | None]]:
    """Calls a module's function in several processes at once; gives their exit codes."""
    # From one process that has loaded what takes seconds to load.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bundles.run_bundle", "cohorts.dicom_study", "handlers"])

    def run(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[int | None]:
        processes = [context.Process(target=function, args=arguments) for arguments in calls]
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(100)
            return [process.exitcode for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.join()

    return run


class MlflowServer(NamedTuple):
    """A server of MLflow on loopback, its process, and the leader of all of its processes."""

    uri: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    artifacts = ["--artifacts-destination", str(tmp_path / "server")]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *where, *store, *artifacts],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = MlflowServer(f"http://127.0.0.1:{port}", process)
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"{server.uri}/health", timeout=3).close()
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"the MLflow server did not start: {process.args!r}")
        yield server
    finally:
        server.kill()
