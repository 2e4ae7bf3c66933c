from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

Batch = tuple[dict[str, torch.Tensor], dict[str, Any]]


def _make_batches(labels: list[int], batch_size: int = 4) -> list[Batch]:
    generator = torch.Generator().manual_seed(len(labels))
    outputs = {
        "logits": torch.randn(len(labels), 1, generator=generator),
        "scores": torch.randn(len(labels), 2, 4, 4, 4, generator=generator),
    }
    risk = torch.tensor(labels, dtype=torch.float32)[:, None]
    mask = (torch.rand(len(labels), 1, 4, 4, 4, generator=generator) < 0.2).float()
    mask *= risk[:, :, None, None, None]
    left = torch.zeros_like(mask)
    left[:, :, :2] = 1
    targets = {
        "risk": risk,
        "risk_known": torch.ones_like(risk),
        "event_years": torch.rand(len(labels), 1, generator=generator) * 2,
        "event": risk,
        "box_mask": mask,
        "side_mask": left,
        "box_distance_mm": torch.rand(mask.shape, generator=generator) * 40,
        "lost_boxes": torch.zeros(len(labels), dtype=torch.int64),
    }
    targets["box_distance_mm"][risk[:, 0] == 0] = torch.inf
    texts = {
        "patient_id": [f"p{index // 2:02d}" for index in range(len(labels))],
        "side": ["left" if label else "none" for label in labels],
    }
    return [
        (
            {key: value[start : start + batch_size] for key, value in outputs.items()},
            {key: value[start : start + batch_size] for key, value in (targets | texts).items()},
        )
        for start in range(0, len(labels), batch_size)
    ]


@pytest.fixture
def make_batches() -> Callable[[list[int]], list[Batch]]:
    """Batches of four ``(outputs, targets)`` for risk labels; two scans a patient, the positive
    ones with a lesion on the left; the last batch may be short."""
    return _make_batches
