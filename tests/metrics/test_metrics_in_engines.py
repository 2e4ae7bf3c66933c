"""The metrics where they run: in MONAI's engines, beside its handlers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import CheckpointSaver, MLFlowHandler, StatsHandler, from_engine

from losses import RiskAttentionLoss
from metrics import (
    AttentionLocalization,
    Auroc,
    Concordance,
    MeanLossTerms,
    ScanAveragePrecision,
    TimeDependentAuc,
)

_from_output = from_engine(["pred", "label"])
_COUNTS = ("lesion_scans", "distance_scans", "side_scans")


class _Replay(torch.nn.Module):
    """Stands for the network: its input is its output."""

    def forward(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return outputs


def _evaluator(batches: list[Any], handlers: list[Any] | None = None) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=batches,
        network=_Replay(),
        prepare_batch=lambda batch, *_args, **_kwargs: batch,
        decollate=False,
        key_val_metric={"auroc": Auroc(_from_output)},
        additional_metrics={
            "average_precision": ScanAveragePrecision(_from_output),
            "c_index": Concordance(_from_output),
            "by_year": TimeDependentAuc(1, _from_output),
            "localization": AttentionLocalization(output_transform=_from_output),
            "loss_terms": MeanLossTerms(RiskAttentionLoss(1.0, 0.5), _from_output),
        },
        val_handlers=handlers,
    )


def test_an_evaluator_hands_flat_floats_to_mlflow_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_batches: Callable[[list[int]], list[Any]]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracking = MLFlowHandler(
        tracking_uri=uri, iteration_log=False, experiment_name="test", run_name="run"
    )
    batches = make_batches([0, 1] * 11)
    evaluator = _evaluator(batches, [tracking, StatsHandler(iteration_log=False, name="stats")])
    evaluator.run()
    metrics = evaluator.state.metrics
    with_interval = (
        *("auroc", "average_precision", "c_index", "auc_year_1", "attention_mass"),
        *("attention_mass_over_chance", "hit_rate", "peak_distance_mm", "side_accuracy"),
    )
    assert set(metrics) == {
        *(name + end for name in with_interval for end in ("", "_low", "_high")),
        *_COUNTS,
        *RiskAttentionLoss(1.0, 0.5).terms(*batches[0]),
    }
    assert all(isinstance(value, (float, int)) for value in metrics.values())
    assert evaluator.state.best_metric == metrics["auroc"]
    assert tracking.cur_run is not None
    run = mlflow.MlflowClient(uri).get_run(tracking.cur_run.info.run_id)
    assert run.data.metrics == pytest.approx(metrics)
    tracking.close()


def test_an_epoch_of_one_class_never_stays_the_best(
    tmp_path: Path, make_batches: Callable[[list[int]], list[Any]]
) -> None:
    saver = CheckpointSaver(
        save_dir=str(tmp_path),
        save_dict={"network": torch.nn.Linear(1, 1)},
        save_key_metric=True,
        key_metric_filename="best.pt",
    )
    evaluator = _evaluator(make_batches([0] * 6), [saver])
    evaluator.run()
    assert evaluator.state.best_metric == -1
    assert evaluator.state.metrics["lesion_scans"] == 0

    evaluator.data_loader = make_batches([0, 1] * 6)
    evaluator.run(2)
    assert evaluator.state.best_metric == evaluator.state.metrics["auroc"] >= 0
    assert evaluator.state.best_metric_epoch == 2

    evaluator.data_loader = healthy = make_batches([0] * 6)
    evaluator.run(3)
    assert evaluator.state.best_metric_epoch == 2
    # What an earlier epoch had and this one has not is gone.
    assert set(evaluator.state.metrics) == {
        "auroc",
        *_COUNTS,
        *RiskAttentionLoss(1.0, 0.5).terms(*healthy[0]),
    }
