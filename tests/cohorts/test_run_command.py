from __future__ import annotations

import errno
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from cohorts.run_command import run_command

OUT = Path("some/out")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, 0, ""),
        (ValueError("a.csv, row 3: x must be 1, got 2"), 1, "error: a.csv, row 3: x must be 1"),
        (FileNotFoundError("a.csv: the table must exist"), 1, "error: a.csv: the table must"),
        (BrokenProcessPool(), 1, "got one killed; try fewer --workers"),
        (KeyboardInterrupt(), 130, "interrupted: the same command completes some/out"),
        (OSError(errno.ENOSPC, "No space left on device"), 1,
         "error: some/out must be a folder that can be written, got No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "some/out/images"), 1,
         "error: some/out must be a folder that can be written, got Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "some"), 1,
         "error: some/out must be a folder that can be written, got Not a directory"),
        (PermissionError(errno.EACCES, "Permission denied", "data/a.csv"), 1,
         "error: data/a.csv: must be readable, got Permission denied"),
    ],
)  # fmt: skip
def test_every_end_has_its_code_and_sentence(
    error: BaseException | None, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        if error is not None:
            raise error

    assert run_command(work, OUT) == code
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == (error is not None)


def test_scans_that_failed_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: ["a: bad", "b: worse"], OUT) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: a: bad",
        "error: b: worse",
        "error: 2 failed, listed above; all else is done",
    ]


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: [str(1 // 0)], OUT)
