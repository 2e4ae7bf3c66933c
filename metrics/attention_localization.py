"""Where the network looked, compared with where the lesion is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.bootstrap_interval import interval_ends, weighted_mean
from metrics.gather_ranks import gather_ranks


class ScanLocalization(NamedTuple):
    """One float32 value per scan ``(B,)``; all but ``chance`` are NaN where the mask is empty.

    Attributes:
        mass: share of the attention that lies on lesion cells, 0 to 1.
        chance: share of the cells that are lesion, which is the mass of uniform attention.
        mass_over_chance: their ratio, 1 for uniform attention.
        hit: 1 if the peak lies on a lesion cell, else 0; cells that tie for the peak share it.
    """

    mass: torch.Tensor
    chance: torch.Tensor
    mass_over_chance: torch.Tensor
    hit: torch.Tensor


def attention_localization(scores: torch.Tensor, mask: torch.Tensor) -> ScanLocalization:
    """Attention mass inside the lesion and the pointing game (arXiv:1608.00507), per scan.

    Args:
        scores: ``(B, *feature)`` of one head, before the softmax over the feature cells.
        mask: ``(B, *feature)``, a cell above 0 is lesion.

    Raises:
        ValueError: shapes differ, or scores have no softmax (NaN, or infinity ahead of all).
    """
    if scores.shape != mask.shape or scores.ndim < 2:
        raise ValueError(
            "scores and mask must both be (B, *feature), "
            f"got {tuple(scores.shape)} and {tuple(mask.shape)}"
        )
    cell_scores = scores.as_subclass(torch.Tensor).detach().float().flatten(1)
    lesion = mask.as_subclass(torch.Tensor).to(cell_scores.device).flatten(1) > 0
    top = cell_scores.amax(dim=1, keepdim=True)
    # Not torch's softmax: on a CPU its float32 sum was 8e-5 off over 819,200 cells.
    attention = (cell_scores - top).exp()
    attention /= attention.sum(dim=1, keepdim=True)
    undefined = attention.isnan().any(dim=1)
    if undefined.any():
        scan = int(undefined.int().argmax())
        raise ValueError(f"scores must have a softmax, got NaN or infinity in scan {scan}")

    # 0 / 0 makes the undefined values NaN.
    chance = lesion.float().mean(dim=1)
    defined = chance / chance
    mass = (attention * lesion).sum(dim=1).clamp(max=1) * defined
    peak = cell_scores == top
    hit = (peak & lesion).sum(dim=1) / peak.sum(dim=1) * defined
    return ScanLocalization(mass, chance, mass / chance, hit)


class AttentionLocalization(Metric):
    """Localization of one attention head over the scans of an epoch that have a lesion, all ranks.

    Written to ``engine.state.metrics``, whatever name it is attached with:

    - ``attention_mass``: mean attention mass inside the lesion
    - ``attention_mass_over_chance``: that mean over the mean of chance. A ratio of means, since a
      mean of ratios would be ruled by the smallest lesions.
    - ``hit_rate``: share of the scans whose peak lies in the lesion
    - ``attention_mass_low``, ``attention_mass_high``, ``hit_rate_low``, ``hit_rate_high``: 95 %
      patient bootstrap, left out where :func:`metrics.bootstrap_interval` refuses one
    - ``lesion_scans``: how many scans had a lesion; where none had, it is the only key

    Args:
        head: attention head that is compared with the boxes.
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["scores"]`` ``(B, heads, *feature)``, ``targets["box_mask"]``
            ``(B, 1, *feature)`` and ``targets["patient_id"]``, one per scan.
    """

    def __init__(
        self, head: int = 0, output_transform: Callable[[Any], Any] = lambda output: output
    ) -> None:
        self._head = head
        super().__init__(output_transform=output_transform, metrics_result_mode="flatten")

    def reset(self) -> None:
        self._lesion_scans: list[tuple[str, float, float, float]] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        outputs, targets = output
        scans = attention_localization(outputs["scores"][:, self._head], targets["box_mask"][:, 0])
        columns = (scans.mass.tolist(), scans.chance.tolist(), scans.hit.tolist())
        rows = zip(targets["patient_id"], *columns, strict=True)
        self._lesion_scans.extend(row for row in rows if row[2] > 0)

    def compute(self) -> dict[str, float]:
        scans = [scan for rank in gather_ranks(self._lesion_scans) for scan in rank]
        if not scans:
            return {"lesion_scans": 0}
        patient_ids = [scan[0] for scan in scans]
        mass, chance, hit = np.array([scan[1:] for scan in scans]).T
        return {
            "attention_mass": float(mass.mean()),
            **interval_ends("attention_mass", partial(weighted_mean, mass), patient_ids),
            "attention_mass_over_chance": float(mass.mean() / chance.mean()),
            "hit_rate": float(hit.mean()),
            **interval_ends("hit_rate", partial(weighted_mean, hit), patient_ids),
            "lesion_scans": len(scans),
        }

    def completed(self, engine: Engine, name: str) -> None:
        for key in ("attention_mass", "attention_mass_over_chance", "hit_rate"):
            for end in ("", "_low", "_high"):
                engine.state.metrics.pop(key + end, None)  # of an earlier epoch
        super().completed(engine, name)
