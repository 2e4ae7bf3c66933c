from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.metrics import Metric

from losses import RiskAttentionLoss
from metrics import (
    AttentionLocalization,
    Auroc,
    Concordance,
    MeanLossTerms,
    ScanAveragePrecision,
    TimeDependentAuc,
    gather_ranks,
    gather_scans,
)


def _all_metrics(batches: list[Any]) -> dict[str, float]:
    loss = RiskAttentionLoss(lambda_box=1.0, lambda_side=0.5)
    metrics: list[Metric] = [
        Auroc(),
        ScanAveragePrecision(),
        Concordance(),
        TimeDependentAuc(years=1),
        AttentionLocalization(),
        MeanLossTerms(loss),
    ]
    for metric in metrics:
        for batch in batches:
            metric.update(batch)
    return {key: value for metric in metrics for key, value in metric.compute().items()}


def _run_rank(rank: int, folder: str, cases: list[list[list[Any]]]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    values = [_all_metrics(batches_of_ranks[rank]) for batches_of_ranks in cases]
    Path(folder, f"{rank}.json").write_text(json.dumps(values))
    dist.destroy_process_group()


def test_two_ranks_agree_with_one_process(
    tmp_path: Path, make_batches: Callable[[list[int]], list[Any]]
) -> None:
    mixed, healthy = make_batches([0, 1] * 11), make_batches([0] * 5)
    # The second rank has fewer batches, a shorter last one and no lesion; then it has nothing.
    cases = [[mixed, healthy], [mixed, []]]
    mp.spawn(_run_rank, args=(str(tmp_path), cases), nprocs=2)
    expected = [_all_metrics([*first, *second]) for first, second in cases]
    assert {"hit_rate_low", "auc_year_1_low", "concordance_low"} <= set(expected[0])
    assert expected[0] != expected[1]
    for rank in range(2):
        values = json.loads((tmp_path / f"{rank}.json").read_text())
        for case in range(2):
            assert values[case] == pytest.approx(expected[case])


def test_one_process_gathers_itself() -> None:
    assert gather_ranks(["scan"]) == [["scan"]]
    assert gather_ranks((0, {})) == [(0, {})]


def test_scans_come_back_in_the_order_in_which_they_were_dealt_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert gather_scans(["a", "b"]) == ["a", "b"]
    ranks = [["a", "d", None], [], ["b", "e"], ["c"]]
    monkeypatch.setattr(idist, "all_gather", lambda own: ranks)
    assert gather_scans(["a"]) == ["a", "b", "c", "d", "e", None]
