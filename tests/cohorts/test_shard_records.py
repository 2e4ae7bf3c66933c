from __future__ import annotations

import os
from pathlib import Path

import pytest

from cohorts.shard import Shard
from cohorts.shard_records import (
    Outcome,
    read_shards,
    shard_begun,
    shard_path,
    stale_shard,
    write_shard,
)

RUN = {"scans": 7, "settings": "a"}


def outcomes(shard: Shard) -> list[Outcome]:
    return [{"name": name} for name in shard.part("abcdefg")]


def write(folder: Path, index: int, count: int, **run: object) -> None:
    shard = Shard(index, count)
    with shard_begun(folder, shard):
        write_shard(folder, shard, {**RUN, **run}, outcomes(shard))


def test_shards_are_read_in_the_order_of_one_run(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        write(tmp_path, index, 3)
    merged = read_shards(tmp_path)
    assert merged.run == RUN
    assert "".join(outcome["name"] for _, outcome in merged.outcomes) == "abcdefg"
    assert [shard.index for shard, _ in merged.outcomes] == [0, 1, 2, 0, 1, 2, 0]


def test_more_shards_than_scans(tmp_path: Path) -> None:
    for index in range(9):
        write(tmp_path, index, 9)
    assert len(read_shards(tmp_path).outcomes) == 7


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shards: must hold the records of shards, got none"):
        read_shards(tmp_path)
    for index in (0, 2):
        write(tmp_path, index, 4)
    with pytest.raises(ValueError, match=r"done to its end, got none of 1/4, 3/4$"):
        read_shards(tmp_path)


def test_a_shard_that_has_begun_anew_is_missing(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path, index, 3)
    with shard_begun(tmp_path, Shard(1, 3)):
        pass  # as one that is killed
    with pytest.raises(ValueError, match=r"got none of 1/3$"):
        read_shards(tmp_path)


@pytest.mark.parametrize("changed", [{"settings": "b"}, {"scans": 8}])
def test_a_shard_of_another_run_is_named(changed: dict[str, object], tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path, index, 4)
        os.utime(shard_path(tmp_path, Shard(index, 4)), (index, index))
    write(tmp_path, 2, 4, **changed)
    with pytest.raises(ValueError, match=r"got 0/4, 1/4, 3/4 of another than 2/4, the newest"):
        read_shards(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    for index in range(2):
        write(tmp_path, index, 2)
    path = shard_path(tmp_path, Shard(1, 2))
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match=r"1-of-2.json: must be the record of a shard.*do 1/2 aga"):
        read_shards(tmp_path)


def test_records_of_another_number_of_shards_give_way(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path, index, 3)
    for index in range(2):
        write(tmp_path, index, 2)
    assert {shard.count for shard, _ in read_shards(tmp_path).outcomes} == {2}
    with shard_begun(tmp_path, Shard(0, 1)), pytest.raises(ValueError, match="got none"):
        read_shards(tmp_path)


def test_two_processes_are_not_at_one_shard(tmp_path: Path) -> None:
    with shard_begun(tmp_path, Shard(0, 2)):
        with (
            pytest.raises(ValueError, match=r"one process at a time, got 0/2 twice"),
            shard_begun(tmp_path, Shard(0, 2)),
        ):
            pass
        with shard_begun(tmp_path, Shard(1, 2)):
            pass
    with shard_begun(tmp_path, Shard(0, 2)):
        pass


def test_the_whole_leaves_no_record(tmp_path: Path) -> None:
    with shard_begun(tmp_path, Shard(0, 1)):
        pass
    assert not list(tmp_path.iterdir())


def test_a_stale_shard_says_what_to_do(tmp_path: Path) -> None:
    assert "those of P1 changed or lost since; do shard 1/2 again" in str(
        stale_shard(tmp_path, Shard(1, 2), "P1")
    )
