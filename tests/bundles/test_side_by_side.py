from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from bundles.side_by_side import Job, run_side_by_side

pytestmark = pytest.mark.usefixtures("terminal_signals")

Ended = list[tuple[str, str, int]]


def _job(folder: Path, name: str, **programs: str) -> Job:
    steps = {step: [sys.executable, "-c", program] for step, program in programs.items()}
    return Job(name=name, steps=steps, log=folder / f"{name}.txt")


def _run(jobs: list[Job], at_once: int) -> Ended:
    ended: Ended = []
    run_side_by_side(
        jobs,
        at_once=at_once,
        environment={**os.environ, "GREETING": "hello"},
        ended=lambda job, step, code, _seconds: ended.append((job.name, step, code)),
    )
    return ended


def test_steps_follow_each_other_until_one_fails(tmp_path: Path) -> None:
    say = "import os; print(os.environ['GREETING'])"
    jobs = [
        _job(tmp_path, "good", train=say, evaluate="import sys; print('done', file=sys.stderr)"),
        _job(tmp_path, "bad", train="raise SystemExit(3)", evaluate="print('never')"),
        _job(tmp_path, "finished"),
    ]
    ended = _run(jobs, at_once=1)
    assert ended == [("good", "train", 0), ("good", "evaluate", 0), ("bad", "train", 3)]
    log = (tmp_path / "good.txt").read_text().splitlines()
    assert [line for line in log if not line.startswith("$")] == ["", "hello", "", "done"]
    assert "never" not in (tmp_path / "bad.txt").read_text().splitlines()
    assert not (tmp_path / "finished.txt").exists()


def test_so_many_at_once(tmp_path: Path) -> None:
    # Each waits for the other's file, so neither ends alone.
    wait = (
        "import pathlib, time\n"
        "pathlib.Path(r'{folder}/{own}').touch()\n"
        "while not pathlib.Path(r'{folder}/{other}').exists(): time.sleep(0.01)"
    )
    names = {"a": "b", "b": "a"}
    jobs = [
        _job(tmp_path, own, train=wait.format(folder=tmp_path, own=own, other=other))
        for own, other in names.items()
    ]
    assert sorted(_run(jobs, at_once=2)) == [("a", "train", 0), ("b", "train", 0)]
    with pytest.raises(ValueError, match="jobs must be 1 or more, got 0"):
        _run(jobs, at_once=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_commands_and_waits_for_them(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = (
        "import pathlib, signal, sys, time\n"
        "def leave(*_):\n"
        "    time.sleep(0.3)\n"
        f"    pathlib.Path(r'{tmp_path}/saved').touch()\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        f"pathlib.Path(r'{tmp_path}/ready').touch()\n"
        "time.sleep(60)"
    )
    jobs = [_job(tmp_path, "long", train=program), _job(tmp_path, "next", train="")]
    ended: Ended = []
    before = signal.getsignal(number)

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(
            jobs,
            at_once=1,
            environment=os.environ,
            ended=lambda job, step, code, _seconds: ended.append((job.name, step, code)),
        )
    thread.join()
    assert ended == [("long", "train", 130)]
    assert (tmp_path / "saved").exists()
    assert signal.getsignal(number) == before


def test_what_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundles.side_by_side.GRACE_S", 0.3)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    )
    job = _job(tmp_path, "deaf", train=f"{deaf}; time.sleep(60)")
    codes: list[int] = []

    def ended(_job: Job, _step: str, code: int, _seconds: float) -> None:
        codes.append(code)

    def interrupt() -> None:
        while not job.log.exists() or "\n1\n" not in job.log.read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([job], at_once=1, environment=os.environ, ended=ended)
    assert codes == [-signal.SIGKILL]
