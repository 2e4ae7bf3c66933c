from __future__ import annotations

import json

import torch

from handlers.finite_scalars import finite_scalars


def test_only_single_numbers_stay_and_what_has_no_value_is_none():
    metrics = {
        "auroc": -1.0,
        "auroc_low": 0.25,
        "risk_loss": torch.tensor(0.5),
        "box_loss": float("nan"),
        "side_loss": torch.tensor([float("inf")]),
        "lesion_scans": 3,
        "cpm": -1.0,
        "dice": -1.0,
        "dice_found": 0.75,
        "cpm_low": 0.5,
        "balance": -1.0,
        "table": torch.zeros(2),
        "details": {"a": 1},
    }
    scalars = finite_scalars(metrics)
    assert scalars == {
        "auroc": None,
        "auroc_low": 0.25,
        "risk_loss": 0.5,
        "box_loss": None,
        "side_loss": None,
        "lesion_scans": 3,
        "cpm": None,
        "dice": None,
        "dice_found": 0.75,
        "cpm_low": 0.5,
        "balance": -1.0,
    }
    json.dumps(scalars, allow_nan=False)
    assert finite_scalars({}) == {}
