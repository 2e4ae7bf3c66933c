"""Where the network looked, compared with where the lesion is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.attention_peak import attention_side, peak_distance, peak_mean
from metrics.bootstrap_interval import FloatArray, weighted_mean, weighted_ratio
from metrics.epoch_values import replace_values, value_with_interval
from metrics.gather_ranks import gather_scans
from metrics.weighted_median import weighted_median


class ScanLocalization(NamedTuple):
    """One float32 value per scan ``(B,)``; all but ``chance`` are NaN where the mask is empty.

    Attributes:
        mass: share of the attention that lies on lesion cells, 0 to 1.
        chance: share of the cells that are lesion, which is the mass of uniform attention.
        hit: 1 if the peak lies on a lesion cell, else 0; cells that tie for the peak share it.
    """

    mass: torch.Tensor
    chance: torch.Tensor
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
    hit = peak_mean(cell_scores, lesion) * defined
    return ScanLocalization(mass, chance, hit)


class JudgedAttention(NamedTuple):
    """Where one head looked in one scan, NaN where the scan has no such value.

    Attributes:
        mass: as ``chance`` and ``hit``, of :class:`metrics.ScanLocalization`.
        chance: share of the cells that are lesion.
        hit: 1 if the peak lies in the lesion.
        distance_mm: from the peak to the nearest box (:func:`metrics.peak_distance`).
        side_hit: 1 if the peak lies in the lung with the cancer; only where that is one lung, for
            in both any peak within the lungs would be right.
    """

    mass: float
    chance: float
    hit: float
    distance_mm: float
    side_hit: float


def judged_attention(scores: torch.Tensor, targets: Mapping[str, Any]) -> list[JudgedAttention]:
    """One entry per scan of a batch.

    Args:
        scores: ``(B, *feature)`` of one head, before the softmax over the feature cells.
        targets: ``box_mask`` ``(B, L, *feature)``, whose union over L is the lesion, ``side_mask``
            and ``box_distance_mm`` ``(B, 1, *feature)``, and ``side``, one word per scan.

    Raises:
        ValueError: shapes differ, or scores have no softmax (NaN, or infinity ahead of all).
    """
    lesion = attention_localization(scores, targets["box_mask"].amax(dim=1))
    distance_mm = peak_distance(scores, targets["box_distance_mm"][:, 0])
    side_hits = attention_side(scores, targets["side_mask"][:, 0]).tolist()
    one_sided = [
        hit if side in ("left", "right") else math.nan
        for hit, side in zip(side_hits, targets["side"], strict=True)
    ]
    columns = (*(column.tolist() for column in (*lesion, distance_mm)), one_sided)
    return [JudgedAttention(*row) for row in zip(*columns, strict=True)]


class AttentionLocalization(Metric):
    """Where one attention head looked, over the scans of an epoch and all ranks.

    Written to ``engine.state.metrics``, whatever name it is attached with:

    - ``attention_mass``: mean attention mass inside the lesion
    - ``attention_mass_over_chance``: that mean over the mean of chance. A ratio of means, since a
      mean of ratios would be ruled by the smallest lesions.
    - ``hit_rate``: share of the scans whose peak lies in the lesion
    - ``peak_distance_mm``: median distance from the peak to the nearest box, over the scans with a
      box. Those whose lesion a crop lost are among them, for their peak misses it all the same.
    - ``side_accuracy``: share of the scans with cancer in one lung whose peak lies in that lung
    - ``lesion_scans``, ``distance_scans`` and ``side_scans``: of how many scans the first three,
      the distance and the side are; where of none, their values are left out.

    All but the counts come with a 95 % patient bootstrap, ``<name>_low`` and ``<name>_high``, left
    out where :func:`metrics.bootstrap_interval` refuses one.

    Args:
        head: attention head that is judged.
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with
            ``outputs["scores"]`` ``(B, heads, *feature)``, ``targets["box_mask"]``
            ``(B, L, *feature)``, whose union over L is the lesion, ``targets["side_mask"]``
            and ``targets["box_distance_mm"]`` ``(B, 1, *feature)``, ``targets["side"]`` and
            ``targets["patient_id"]``, one per scan.
    """

    def __init__(
        self, head: int = 0, output_transform: Callable[[Any], Any] = lambda output: output
    ) -> None:
        self._head = head
        super().__init__(output_transform=output_transform, metrics_result_mode="flatten")

    def reset(self) -> None:
        self._scans: list[tuple[str, JudgedAttention]] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        outputs, targets = output
        judged = judged_attention(outputs["scores"][:, self._head], targets)
        self._scans.extend(zip(targets["patient_id"], judged, strict=True))

    def compute(self) -> dict[str, float]:
        scans = gather_scans(self._scans)
        patients, judged = [patient for patient, _ in scans], [scan for _, scan in scans]
        values: dict[str, float] = {
            "lesion_scans": sum(scan.chance > 0 for scan in judged),
            "distance_scans": sum(not math.isnan(scan.distance_mm) for scan in judged),
            "side_scans": sum(not math.isnan(scan.side_hit) for scan in judged),
        }
        for name, fields, average in _AVERAGES:
            rows = [[getattr(scan, field) for field in fields] for scan in judged]
            defined = [place for place, row in enumerate(rows) if not any(map(math.isnan, row))]
            if defined:
                columns = np.array([rows[place] for place in defined]).T
                patient_ids = [patients[place] for place in defined]
                values |= value_with_interval(name, partial(average, *columns), patient_ids)
        return values

    def completed(self, engine: Engine, name: str) -> None:
        replace_values(engine, (name for name, _, _ in _AVERAGES), self.compute())


# Name of the metric, fields of the scan, and how they are averaged.
_AVERAGES: tuple[tuple[str, tuple[str, ...], Callable[..., FloatArray]], ...] = (
    ("attention_mass", ("mass",), weighted_mean),
    ("attention_mass_over_chance", ("mass", "chance"), weighted_ratio),
    ("hit_rate", ("hit",), weighted_mean),
    ("peak_distance_mm", ("distance_mm",), weighted_median),
    ("side_accuracy", ("side_hit",), weighted_mean),
)
