from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from torch import nn
from torch.utils.data import DataLoader

from handlers import PrepareTargets, RiskCalibrator, TrainingCheckpoints
from metrics import MeanLossTerms, censoring_weights, platt_scaling
from networks import read_calibration

EVIDENCE = torch.cat([torch.linspace(-2, 1, 12), torch.linspace(-1, 2, 8)])
LABELS = [0] * 12 + [1] * 8


class _Factor(nn.Module):
    """The logit is the image times one weight, which the test sets for each epoch."""

    def __init__(self, years: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.years = years

    def forward(self, image: torch.Tensor, with_attention: bool = False) -> dict[str, torch.Tensor]:
        steps = torch.arange(1 - self.years, 1)
        return {"logits": self.weight * image.reshape(-1, 1) + steps}


class _DistanceFromTwo(nn.Module):
    """A loss that names the epoch best whose weight is nearest to 2."""

    def __init__(self, network: _Factor) -> None:
        super().__init__()
        self.network = network

    def terms(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"loss": (self.network.weight - 2).abs().sum()}

    def forward(self, outputs: Any, targets: Any) -> torch.Tensor:
        return 0 * self.terms(outputs, targets)["loss"]


# Of scans with cancer the years to it; of the others those of the follow-up.
EVENT_YEARS = [3.0, 0.5, 1.5, 3.0, 2.5, 4.0, 1.5, 3.0, 0.5, 3.0, 3.5, 2.5]
EVENT_YEARS += [2.9, 2.75, 2.8, 0.5, 0.75, 0.4, 0.6, 0.25]


def _items(labels: Sequence[int], years: int) -> list[dict[str, Any]]:
    within = torch.arange(1, years + 1)
    items = []
    for scan, label in enumerate(labels):
        follow_up: dict[str, Any] = {"risk": torch.tensor([float(label)])}
        if years > 1:
            end = EVENT_YEARS[scan]
            follow_up = {
                "risk": ((within >= end) & bool(label)).float(),
                "risk_known": ((within <= end) | bool(label)).float(),
                "event": torch.tensor([float(label)]),
                "event_years": torch.tensor([end]),
            }
        same = {"image": EVIDENCE[scan], "risk_known": torch.ones(1), "patient_id": f"p{scan // 2}"}
        items.append(same | follow_up)
    return items


def _train(
    folder: Path,
    weights: Sequence[float],
    *,
    labels: Sequence[int] = LABELS,
    years: int = 1,
    resume: str | None = None,
) -> None:
    """Trains one epoch for each weight; those before a resumed epoch are skipped."""
    datalist = folder / "datalist.json"
    datalist.write_text(json.dumps({"name": "made up", "world_frame": "RAS", "box_mode": "cccwhd"}))
    network = _Factor(years)
    loss = _DistanceFromTwo(network)
    data: Any = _items(labels, years)
    follow_up = ["event", "event_years"] if years > 1 else []
    prepare = PrepareTargets(["risk", "risk_known", "patient_id", *follow_up])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=3),
        network=network,
        prepare_batch=prepare,
        key_val_metric={
            "loss": MeanLossTerms(loss, output_transform=from_engine(["pred", "label"]))
        },
        metric_cmp_fn=lambda current, best: current < best,
        decollate=False,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=len(weights),
        train_data_loader=DataLoader(data, batch_size=len(data)),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=prepare,
        decollate=False,
        train_handlers=[
            TrainingCheckpoints(
                run_dir=str(folder),
                network=network,
                optimizer=optimizer,
                lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer),
                evaluator=evaluator,
                resume=resume,
            ),
            RiskCalibrator(folder, evaluator, target_sensitivity=0.75, datalist=datalist),
            ValidationHandler(interval=1, validator=evaluator),
        ],
    )

    @trainer.on(Events.EPOCH_STARTED)
    def set_weight(engine: SupervisedTrainer) -> None:
        with torch.no_grad():
            network.weight.fill_(weights[engine.state.epoch - 1])

    trainer.run()


def _expected_slope(weight: float) -> float:
    logits, labels = weight * EVIDENCE.numpy()[:, None], np.array(LABELS)[:, None]
    return platt_scaling(logits, labels, np.ones_like(labels)).slope


def test_it_is_that_of_the_best_weights(tmp_path):
    _train(tmp_path, [0.5, 2.0, 1.0])
    calibration = read_calibration(tmp_path / "calibration.json")
    assert calibration is not None
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert float(weights["weight"]) == 2.0
    model = (tmp_path / "model.pt").read_bytes()
    assert calibration.checkpoint_sha256 == hashlib.sha256(model).hexdigest()
    assert calibration.slope == pytest.approx(_expected_slope(2.0), rel=1e-4)
    assert (calibration.scans, calibration.positives) == (20, 8)
    assert (calibration.split, calibration.datalist) == ("validation", "made up")
    assert len(calibration.patients_sha256) == 10
    assert all(calibration.fitted_on(f"p{number}") for number in range(10))
    # 6 of the 8 positives: the third smallest of -1 ... 2 is the sixth largest.
    risks = calibration.risk(2.0 * EVIDENCE)
    assert calibration.threshold == pytest.approx(float(risks[12 + 2]))
    assert (risks[12:] >= calibration.threshold).double().mean() == 0.75


def test_a_resumed_training_keeps_it_until_there_are_better_weights(tmp_path):
    _train(tmp_path, [0.5, 1.5])
    before = (tmp_path / "calibration.json").read_bytes()
    last = str(tmp_path / "last.pt")
    _train(tmp_path, [0.5, 1.5, 0.7], resume=last)
    assert (tmp_path / "calibration.json").read_bytes() == before
    _train(tmp_path, [0.5, 1.5, 0.7, 2.1], resume=last)
    after = read_calibration(tmp_path / "calibration.json")
    assert after is not None
    assert after.slope == pytest.approx(_expected_slope(2.1), rel=1e-4)


def test_years_share_one_calibration_and_the_last_has_the_threshold(tmp_path):
    _train(tmp_path, [2.0], years=3)
    calibration = read_calibration(tmp_path / "calibration.json")
    assert calibration is not None
    logits = 2.0 * EVIDENCE[:, None] + torch.arange(-2, 1)
    items = _items(LABELS, 3)
    risk, known = (
        np.array([item[key].numpy() for item in items]) for key in ("risk", "risk_known")
    )
    weights = np.zeros((20, 3))
    for year in (1, 2, 3):
        weights[:, year - 1] = censoring_weights(EVENT_YEARS, LABELS, year=year)
    weights *= known
    expected = platt_scaling(logits.numpy(), risk, weights)
    assert (calibration.slope, calibration.intercept) == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(platt_scaling(logits.numpy(), risk, known), rel=0.05)
    # Of the twelve without cancer two are known in no year, and six in all three.
    assert (calibration.scans, calibration.positives) == (int(known.any(axis=1).sum()), 8)
    # The threshold is the highest at which three quarters of the weight of the cancers are found.
    risks, weight = calibration.risk(logits)[12:, -1].numpy(), weights[12:, -1]
    found = [weight[risks >= threshold].sum() / weight.sum() for threshold in risks]
    best = max(t for t, share in zip(risks, found, strict=True) if share >= 0.75)
    assert calibration.threshold == pytest.approx(float(best))
    assert best < np.sort(risks)[2]  # which is what finds six of eight


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (LABELS[:16], "at least 5 positives and 5 negatives, got 4 and 12"),
        ([0] * 20, "at least 5 positives and 5 negatives, got 0 and 20"),
        (LABELS[::-1], "needs logits that rise with the label, got slope"),
        ([0], "at least 5 positives and 5 negatives, got 0 and 1"),
    ],
)
def test_without_enough_an_older_one_goes_and_one_warning_says_why(
    labels, sentence, tmp_path, caplog
):
    (tmp_path / "calibration.json").write_text("{}")
    with caplog.at_level(logging.WARNING, logger="handlers.risk_calibrator"):
        _train(tmp_path, [1.9, 2.0], labels=labels)
    assert not (tmp_path / "calibration.json").exists()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("handlers")]
    assert sentence in said[0]
    assert len(said) == (2 if "slope" in sentence else 1)  # the slope differs from epoch to epoch


@pytest.mark.parametrize("target", [0.0, 1.2])
def test_an_impossible_target_is_refused(target, tmp_path):
    evaluator = SupervisedEvaluator(torch.device("cpu"), [], nn.Identity())
    with pytest.raises(ValueError, match=f"target_sensitivity must be .*, got {target}"):
        RiskCalibrator(tmp_path, evaluator, target_sensitivity=target, datalist="datalist.json")
