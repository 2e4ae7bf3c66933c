from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from transforms import checked_entries
from transforms.checked_entries import CheckedEntries

FILES = {"image": bytes(range(256)) * 40, "mask": b"\0" * 500}
FORK = multiprocessing.get_context("fork")


class Maker:
    """Gives the files and counts, across processes, how often it was asked."""

    def __init__(self, log: Path, seconds: float = 0) -> None:
        self.log = log
        self.seconds = seconds

    def __call__(self) -> dict[str, bytes]:
        with self.log.open("a") as stream:
            stream.write("made\n")
        time.sleep(self.seconds)
        return FILES

    @property
    def count(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "log.txt")


def assert_whole(entry: Path) -> None:
    assert {name: (entry / name).read_bytes() for name in FILES} == FILES
    assert not list(entry.parent.glob(".partial*"))


def test_an_entry_is_made_once(tmp_path: Path, maker: Maker) -> None:
    entries = CheckedEntries(tmp_path / "cache")
    assert entries.find("a") is None
    entry = entries.find_or_make("a", maker)
    assert_whole(entry)
    assert entries.find_or_make("a", maker) == entry == entries.find("a")
    assert CheckedEntries(tmp_path / "cache").find("a") == entry
    assert maker.count == 1
    entries.find_or_make("b", maker)
    assert maker.count == 2


def _flip(entry: Path) -> None:
    content = bytearray((entry / "image").read_bytes())
    content[5000] ^= 1
    (entry / "image").write_bytes(content)


def _cut(entry: Path) -> None:
    (entry / "image").write_bytes(FILES["image"][:777])


def _lose(entry: Path) -> None:
    (entry / "mask").unlink()


def _lose_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def _garble_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_bytes(b"\xff\0[")


def _list_as_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text('{"key": "a", "sha256": [1]}')


def _swap(entry: Path) -> None:
    other = CheckedEntries(entry.parent).find_or_make("b", lambda: {**FILES, "mask": b"another"})
    shutil.rmtree(entry)
    shutil.copytree(other, entry)


DAMAGES = [_flip, _cut, _lose, _lose_manifest, _garble_manifest, _list_as_manifest, _swap]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("in_use", [True, False])
def test_damage_is_noticed_and_the_entry_made_anew(
    damage: Callable[[Path], None],
    in_use: bool,
    tmp_path: Path,
    maker: Maker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    entries = CheckedEntries(tmp_path / "cache")
    entry = entries.find_or_make("a", maker)
    damage(entry)
    if not in_use:
        entries = CheckedEntries(tmp_path / "cache")
    with caplog.at_level(logging.WARNING):
        assert entries.find("a") is None
    assert f"{entry} is damaged and will be made anew" in caplog.text
    assert_whole(entries.find_or_make("a", maker))
    assert maker.count == 2
    assert entries.find("a") == entry


def test_of_two_processes_at_once_one_makes_it(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "log.txt", seconds=0.5)
    processes = [
        FORK.Process(target=CheckedEntries(tmp_path / "cache").find_or_make, args=("a", maker))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert maker.count == 1
    assert_whole(tmp_path / "cache" / "a")


def _make_and_die(folder: Path) -> None:
    write = checked_entries._write

    def write_and_die(path: Path, content: bytes) -> None:
        write(path, content[:100])
        os.kill(os.getpid(), signal.SIGKILL)

    checked_entries._write = write_and_die
    CheckedEntries(folder).find_or_make("a", lambda: FILES)


def test_what_a_killed_process_left_is_never_used(tmp_path: Path, maker: Maker) -> None:
    folder = tmp_path / "cache"
    process = FORK.Process(target=_make_and_die, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(folder.glob(".partial*"))
    entries = CheckedEntries(folder)
    assert entries.find("a") is None
    assert_whole(entries.find_or_make("a", maker))
    assert maker.count == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    write = checked_entries._write

    def write_until_full(path: Path, content: bytes) -> None:
        write(path, content[:100])
        if path.name == "mask":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checked_entries, "_write", write_until_full)
    with pytest.raises(OSError, match="has room, got No space left on device") as caught:
        CheckedEntries(folder).find_or_make("a", maker)
    assert str(caught.value).startswith(str(folder)) and caught.value.errno is None
    assert [path.name for path in folder.iterdir()] == [".locks"]
    monkeypatch.undo()
    assert_whole(CheckedEntries(folder).find_or_make("a", maker))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, maker: Maker) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="must be a folder that can be written and has room, got Not"):
        CheckedEntries(tmp_path / "file" / "cache").find_or_make("a", maker)
    assert maker.count == 0


def test_a_complete_cache_may_be_read_only(
    tmp_path: Path, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    entry = CheckedEntries(folder).find_or_make("a", maker)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # Not by the folder's mode: root may write anywhere.
    for name in ("mkdir", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    assert CheckedEntries(folder).find_or_make("a", maker) == entry
    with pytest.raises(OSError, match=r"must be a folder that can be .* got Permission denied"):
        CheckedEntries(folder).find_or_make("b", maker)
    assert maker.count == 1


def test_a_failing_maker_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, bytes]:
        raise ValueError("a bad scan")

    entries = CheckedEntries(tmp_path / "cache")
    with pytest.raises(ValueError, match="a bad scan"):
        entries.find_or_make("a", fail)
    assert entries.find("a") is None
