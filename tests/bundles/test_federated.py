"""Every bundle, as it stands, under MONAI's federated client: two sites, two rounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from mlflow import MlflowClient
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

from bundles.bundle_config import bundle_configs
from cohorts import write_datalist
from handlers.finite_scalars import finite_scalars

ROUNDS = 2
LAYERS = ["configs/common.yaml", "configs/train.yaml", "../tracking.yaml"]
SETTINGS_OF = {
    "lung_ct_cancer_risk": "small_settings",
    "lung_ct_nodule_detection": "detector_settings",
    "lung_ct_nodule_segmentation": "segmenter_settings",
}
Weights = Mapping[str, torch.Tensor]


class Update(NamedTuple):
    """What a site sends after a round."""

    steps: int
    differences: Weights


@pytest.fixture(scope="module")
def sites(datalist: Path) -> dict[str, Path]:
    """Three scans with nodules at one site, and one, without any, at the other."""
    content = json.loads(datalist.read_text())
    (healthy,) = [item for item in content["training"] if not item["boxes"]]
    diseased = [item for item in content["training"] if item["boxes"]]
    first, second = sorted(content["validation"], key=lambda item: item["risk"])
    unmarked = {key: value for key, value in first.items() if key not in ("mask", "nodules")}
    unmarked |= {"boxes": [], "box_labels": []}
    splits = {"many": (diseased, second), "none": ([healthy], unmarked)}
    paths = {name: datalist.with_name(f"site_{name}.json") for name in splits}
    for name, (training, validation) in splits.items():
        split = {"training": training, "validation": [validation], "testing": []}
        write_datalist({**content, **split}, paths[name])
    return paths


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all bundles: making its schema takes longest of all."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.mark.filterwarnings("ignore:executing the bundle config")
@pytest.mark.parametrize("bundle", SETTINGS_OF)
def test_two_sites_train_one_network(
    bundle: str,
    sites: dict[str, Path],
    store: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    small: list[str] = request.getfixturevalue(SETTINGS_OF[bundle])
    clients = {
        name: _client(bundle, datalist, tmp_path / name, small) for name, datalist in sites.items()
    }
    trainer = clients["many"].trainer
    assert trainer is not None
    shared: Weights = {name: each.clone() for name, each in trainer.network.state_dict().items()}
    for epoch in range(1, ROUNDS + 1):
        updates = [_trained(client, shared) for client in clients.values()]
        assert updates[0].steps > updates[1].steps > 0  # the larger site weighs more
        assert all(any(each.any() for each in site.differences.values()) for site in updates)
        shared = _weighted_average(shared, updates)
        first, second = (_last(tmp_path / name, epoch) for name in clients)
        for name, value in shared.items():
            sums = updates[0].steps * first[name] + updates[1].steps * second[name]
            by_hand = sums / (updates[0].steps + updates[1].steps)
            tolerance = 1e-6 if value.is_floating_point() else 0.5  # a count of batches is rounded
            torch.testing.assert_close(value.to(by_hand), by_hand, rtol=1e-5, atol=tolerance)
    for name, client in clients.items():
        judged = client.evaluate(ExchangeObject(weights=dict(shared)))
        evaluator = client.evaluator
        assert evaluator is not None
        assert evaluator.state.key_metric_name in finite_scalars(judged.metrics or {}), name
        for tensor, value in evaluator.network.state_dict().items():
            assert torch.equal(value, shared[tensor])
        best = client.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
        assert best.weights.keys() == shared.keys()
        client.finalize()
    tracking = MlflowClient(tracking_uri=store)
    experiment = tracking.get_experiment_by_name(bundle)
    assert experiment is not None
    runs = tracking.search_runs([experiment.experiment_id])
    assert sorted(str(run.info.run_name).partition("_")[0] for run in runs) == sorted(clients)
    for run in runs:
        losses = tracking.get_metric_history(run.info.run_id, "train_loss")
        assert [each.step for each in losses] == list(range(1, ROUNDS + 1))


def _client(bundle: str, datalist: Path, run_dir: Path, small: Sequence[str]) -> MonaiAlgo:
    settings = [pair.split("=", 1) for pair in small if pair != "--set"]
    overrides: dict[str, Any] = {name: yaml.safe_load(text) for name, text in settings}
    overrides |= {"data_list": str(datalist), "run_dir": str(run_dir), "val_interval": 1}
    client = MonaiAlgo(
        bundle_root=str(bundle_configs(bundle).parent),
        config_train_filename=LAYERS,
        train_kwargs={**overrides, "max_epochs": ROUNDS},  # for the learning rate's schedule
        config_evaluate_filename=LAYERS[:2],
        eval_kwargs=dict(overrides),
        best_model_filepath=str(run_dir / "model.pt"),
    )
    client.initialize({ExtraItems.CLIENT_NAME: run_dir.name})
    return client


def _trained(client: MonaiAlgo, shared: Weights) -> Update:
    client.train(ExchangeObject(weights=dict(shared)))
    sent = client.get_weights()
    return Update(sent.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS], sent.weights)


def _weighted_average(shared: Weights, updates: Sequence[Update]) -> Weights:
    """What a server makes of differences; batch norm's count of batches is rounded."""
    steps = sum(update.steps for update in updates)
    average = {}
    for name, value in shared.items():
        parts = [update.steps * update.differences[name].double() for update in updates]
        moved = value.double() + torch.stack(parts).sum(0) / steps
        average[name] = (moved if value.is_floating_point() else moved.round()).to(value.dtype)
    return average


def _last(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run_dir / "last.pt", weights_only=True)
    trainer = checkpoint["trainer"]
    assert trainer["iteration"] == epoch * trainer["epoch_length"]
    return {name: value.double() for name, value in checkpoint["network"].items()}
