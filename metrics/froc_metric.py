"""A detector's FROC and average precision over an epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.average_precision import average_precision
from metrics.bootstrap_interval import MIN_PATIENTS
from metrics.epoch_values import WarnOnce, replace_values
from metrics.froc_curve import FALSE_POSITIVES_PER_SCAN, froc_intervals, froc_sensitivities
from metrics.gather_ranks import gather_ranks
from metrics.luna16_csv import FloatArray, ScanPoints
from metrics.match_marks import MatchedMarks, match_marks

logger = logging.getLogger(__name__)

UNDEFINED_CPM = -1.0
_SENSITIVITIES = tuple(f"sensitivity_at_{rate:g}" for rate in FALSE_POSITIVES_PER_SCAN)
_FAR_MM = -1e6
_PRECISIONS = ("average_precision_10", "average_precision_10_50")


class Froc(Metric):
    """LUNA16's FROC (:func:`metrics.match_marks`) over the scans of an epoch and all ranks.

    A mark is the centre of a box; a nodule's diameter is the mean of its box's sides. Nodules that
    a crop of the scan lost count as missed. Written to ``engine.state.metrics``:

    - ``cpm``: mean sensitivity at 1/8 ... 8 false positives a scan, under the attached name
    - ``sensitivity_at_0.125`` ... ``sensitivity_at_8``
    - ``average_precision_10`` and ``average_precision_10_50``: :func:`metrics.average_precision`

    All but the last come with LUNA16's 95 % bootstrap over scans, ``<name>_low`` and
    ``<name>_high``, left out below 10 scans. Without a nodule there is no FROC: one warning says
    so, the value is -1, as of :class:`metrics.Auroc`, and the others are left out.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` with a list over
            the batch of corners ``outputs["boxes"]`` ``(N, 2 * spatial_dims)`` in voxels and of
            ``outputs["scores"]`` ``(N,)``, ``targets["boxes_voxel"]``
            ``(B, max_boxes, 2 * spatial_dims)``, ``targets["box_count"]`` ``(B,)``,
            ``targets["spacing_mm"]`` ``(B, spatial_dims)`` and, where a crop may have lost boxes,
            their number ``targets["lost_boxes"]`` ``(B,)``.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[_MarkedScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        outputs, targets = output
        counts = targets["box_count"].tolist()
        lost = targets["lost_boxes"].tolist() if "lost_boxes" in targets else [0] * len(counts)
        rows = zip(
            outputs["boxes"],
            outputs["scores"],
            targets["boxes_voxel"],
            targets["spacing_mm"],
            counts,
            lost,
            strict=True,
        )
        for boxes, scores, nodules, spacing_mm, count, lost_here in rows:
            to_mm = np.tile(_float64(spacing_mm), 2)
            nodules_mm = np.concatenate(
                (_float64(nodules[:count]) * to_mm, _far_boxes(lost_here, len(to_mm)))
            )
            self._scans.append(_MarkedScan(_float64(boxes) * to_mm, _float64(scores), nodules_mm))

    def compute(self) -> dict[str, float]:
        """``cpm``, the sensitivities and the average precisions, with their intervals."""
        scans = [scan for rank in gather_ranks(self._scans) for scan in rank]
        if not any(len(scan.nodules_mm) for scan in scans):
            self._warn(
                f"FROC needs a nodule, got none in {len(scans)} scans: "
                f"CPM is reported as {UNDEFINED_CPM:g}"
            )
            return {"cpm": UNDEFINED_CPM}
        matched = _matched(scans)
        sensitivities = froc_sensitivities(matched)
        values = {"cpm": float(sensitivities.mean())}
        values |= dict(zip(_SENSITIVITIES, sensitivities.tolist(), strict=True))
        if len(scans) >= MIN_PATIENTS:
            intervals = froc_intervals(matched)
            ends = (intervals.cpm, *intervals.sensitivities)
            for name, interval in zip(("cpm", *_SENSITIVITIES), ends, strict=True):
                values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        return values | _precisions(scans)

    def completed(self, engine: Engine, name: str) -> None:
        # A key metric must stand under the name it was attached with, whatever that is.
        values = self.compute().items()
        replace_values(
            engine,
            [name, *_SENSITIVITIES, *_PRECISIONS],
            {_under(name, key): value for key, value in values},
        )


class _MarkedScan(NamedTuple):
    """A scan's boxes with their scores, and its nodules; corners in mm along the array's axes."""

    boxes_mm: FloatArray
    scores: FloatArray
    nodules_mm: FloatArray


def _float64(values: torch.Tensor) -> FloatArray:
    return values.double().numpy(force=True)


def _far_boxes(count: int, columns: int) -> FloatArray:
    """Boxes of 1 mm where no mark is."""
    low, high = np.split(np.full((count, columns), _FAR_MM), 2, axis=1)
    return np.concatenate((low, high + 1), axis=1)


def _matched(scans: Sequence[_MarkedScan]) -> MatchedMarks:
    marks = _points([scan.boxes_mm for scan in scans])
    nodules = _points([scan.nodules_mm for scan in scans])
    scores = np.concatenate([scan.scores for scan in scans])
    none = _points([scan.nodules_mm[:0] for scan in scans])
    return match_marks(marks._replace(value=scores), nodules, none, len(scans))


def _points(boxes_mm: Sequence[FloatArray]) -> ScanPoints:
    """Centres, in 2D with a zero as the third coordinate, and mean sides of each scan's boxes."""
    scan = np.repeat(np.arange(len(boxes_mm)), [len(boxes) for boxes in boxes_mm])
    low, high = np.split(np.concatenate(boxes_mm), 2, axis=1)
    centre_mm = np.zeros((len(scan), 3))
    centre_mm[:, : low.shape[1]] = (low + high) / 2
    return ScanPoints(scan, centre_mm, (high - low).mean(axis=1))


def _precisions(scans: Sequence[_MarkedScan]) -> dict[str, float]:
    columns = (
        [torch.from_numpy(values) for values in column] for column in zip(*scans, strict=True)
    )
    return dict(zip(_PRECISIONS, average_precision(*columns), strict=True))


def _under(name: str, key: str) -> str:
    return name + key.removeprefix("cpm") if key.startswith("cpm") else key
