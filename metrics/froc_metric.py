"""A detector's FROC and average precision over an epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from metrics.average_precision import average_precision
from metrics.epoch_values import WarnOnce, replace_values
from metrics.froc_values import SENSITIVITIES, froc_values
from metrics.gather_ranks import gather_scans
from metrics.marked_scan import MarkedScan, marked_scans, matched_scans

logger = logging.getLogger(__name__)

UNDEFINED_CPM = -1.0
_PRECISIONS = ("average_precision_10", "average_precision_10_50")


class Froc(Metric):
    """LUNA16's FROC (:func:`metrics.match_marks`) over the scans of an epoch and all ranks.

    A mark is the centre of a box; a nodule's diameter is the mean of its box's sides. Nodules that
    a crop of the scan lost count as missed. Written to ``engine.state.metrics``:

    - ``cpm``: mean sensitivity at 1/8 ... 8 false positives a scan, under the attached name
    - ``sensitivity_at_0.125`` ... ``sensitivity_at_8``
    - ``average_precision_10`` and ``average_precision_10_50``: :func:`metrics.average_precision`

    All but the last come with LUNA16's 95 % bootstrap over scans, ``<name>_low`` and
    ``<name>_high``, which :func:`metrics.froc_values` leaves out of a small cohort. Without a
    nodule there is no FROC: one warning says so, the value is -1, as of :class:`metrics.Auroc`, and
    the others are left out.

    Args:
        output_transform: takes ``engine.state.output`` to ``(outputs, targets)`` of
            :func:`metrics.marked_scans`.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self._warn = WarnOnce(logger)
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self._scans: list[MarkedScan] = []

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        self._scans += marked_scans(*output)

    def compute(self) -> dict[str, float]:
        """``cpm``, the sensitivities and the average precisions, with their intervals."""
        scans = gather_scans(self._scans)
        if not any(len(scan.nodules_mm) for scan in scans):
            self._warn(
                f"FROC needs a nodule, got none in {len(scans)} scans: "
                f"CPM is reported as {UNDEFINED_CPM:g}"
            )
            return {"cpm": UNDEFINED_CPM}
        return froc_values(matched_scans(scans)) | _precisions(scans)

    def completed(self, engine: Engine, name: str) -> None:
        # A key metric must stand under the name it was attached with, whatever that is.
        values = self.compute().items()
        replace_values(
            engine,
            [name, *SENSITIVITIES, *_PRECISIONS],
            {_under(name, key): value for key, value in values},
        )


def _precisions(scans: Sequence[MarkedScan]) -> dict[str, float]:
    precisions = average_precision(
        [torch.from_numpy(scan.boxes_mm) for scan in scans],
        [torch.from_numpy(scan.scores) for scan in scans],
        [torch.from_numpy(scan.nodules_mm) for scan in scans],
    )
    return dict(zip(_PRECISIONS, precisions, strict=True))


def _under(name: str, key: str) -> str:
    return name + key.removeprefix("cpm") if key.startswith("cpm") else key
