from __future__ import annotations

import pytest

from cohorts.shard import WHOLE, Shard


def test_shards_are_the_whole_without_overlap() -> None:
    scans = list("abcdefgh")
    parts = [list(Shard(index, 3).part(scans)) for index in range(3)]
    assert parts == [["a", "d", "g"], ["b", "e", "h"], ["c", "f"]]
    assert Shard.parse(WHOLE).part(scans) == scans
    assert list(Shard(4, 5).part(scans[:3])) == []


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard.parse("11/12")) == "11/12"


@pytest.mark.parametrize("text", ["", "1", "1/", "/4", "-1/4", "1/4/2", "1.0/4", "one/4", " 1/4"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"shard must be i/n, counted from 0, such as 2/8, got '"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["4/4", "1/0", "0/0"])
def test_an_index_that_the_count_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"from 0 to n - 1, got {text}$"):
        Shard.parse(text)
