from __future__ import annotations

from collections.abc import Callable

import ignite.distributed as idist
import pytest
from monai.data import Dataset

from handlers import rank_sampler, rank_shard, rank_share


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def become(rank: int, ranks: int) -> None:
        monkeypatch.setattr(idist, "get_rank", lambda: rank)
        monkeypatch.setattr(idist, "get_world_size", lambda: ranks)

    return become


def test_every_scan_is_in_one_share(as_rank: Callable[[int, int], None]) -> None:
    shares = []
    for rank in range(3):
        as_rank(rank, 3)
        shares.append(rank_share("abcdefgh"))
        assert rank_shard("abcdefgh") == f"{rank}/3"
    assert shares == [["a", "d", "g"], ["b", "e", "h"], ["c", "f"]]


def test_one_process_has_them_all() -> None:
    assert rank_shard("ab") == "0/1"
    assert rank_share("ab") == ["a", "b"]


def test_ranks_without_a_scan_are_refused(as_rank: Callable[[int, int], None]) -> None:
    as_rank(0, 3)
    with pytest.raises(ValueError, match="a scan for each rank, got 2 scans for 3 ranks"):
        rank_share("ab")
    with pytest.raises(ValueError, match="a sample for each rank, got 2 for 3 ranks"):
        rank_sampler("ab", seed=0)


def test_all_samples_are_dealt_out_anew_in_every_epoch(as_rank: Callable[[int, int], None]) -> None:
    samplers = []
    for rank in range(2):
        as_rank(rank, 2)
        samplers.append(rank_sampler(Dataset(range(7)), seed=3))
    epochs = []
    for epoch in range(3):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        first, second = map(list, samplers)
        assert len(first) == len(second) == 4  # one sample twice, so that no rank waits
        assert {*first, *second} == set(range(7))
        epochs.append(first)
    assert epochs[0] != epochs[1] != epochs[2]
