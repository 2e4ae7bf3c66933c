"""The results of an evaluation as files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from cohorts.replaced_file import replaced_file
from handlers.describe_checkpoint import describe_checkpoint
from handlers.exit_on_failures import exit_on_failures
from handlers.finite_scalars import finite_scalars
from handlers.three_planes import INTENDED_USE
from handlers.writable_folder import writable_folder
from handlers.write_json import write_json
from metrics import attention_localization

if TYPE_CHECKING:
    from cohorts import ReadableScans

COLUMNS = (
    "patient_id",
    "risk",
    "predicted_risk",
    "attention_mass",
    "chance",
    "hit",
    "lost_boxes",
)


class EvaluationWriter:
    """Writes what an evaluation found: ``evaluation.json`` and one row a scan, ``per_scan.csv``.

    Columns: ``risk`` is the label and ``predicted_risk`` the network's; ``attention_mass``,
    ``chance`` and ``hit`` are those of :class:`metrics.ScanLocalization`, empty for a scan
    without a lesion. ``lost_boxes`` are cancers outside of the part that the network saw; they
    are missing from the localization numbers, and their sum stands beside these. Run ``finish``
    after the evaluator.

    Args:
        output_dir: folder of the results, made if needed.
        dataset: the scans, where they come from a ``ReadableScans``: those that failed are
            listed.
        datalist: the datalist JSON; its name and whether it is synthetic stand with the numbers.
        checkpoint: path of the weights, for the record.
        head: the attention head compared with the boxes.

    Raises:
        ValueError: when the evaluator starts, if ``output_dir`` cannot be written.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset: ReadableScans | None = None,
        *,
        datalist: str | Path | None = None,
        checkpoint: str | Path | None = None,
        head: int = 0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.datalist = datalist
        self.checkpoint = checkpoint
        self.head = head
        self._rows: list[tuple[str, int, float, float, float, float, int]] = []

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator ``engine``, whose own metrics are computed before."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def finish(self) -> None:
        """Ends the program with a non-zero code if a scan failed.

        Raises:
            SystemExit: a scan failed.
        """
        failures = self._failures
        exit_on_failures(failures, len(self._rows) + len(failures), self._report)

    @property
    def _report(self) -> Path:
        return self.output_dir / "evaluation.json"

    @property
    def _failures(self) -> list[dict[str, str]]:
        return [] if self.dataset is None else self.dataset.failures

    def _start(self, _engine: Engine) -> None:
        writable_folder(self.output_dir)
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        outputs, targets = output["pred"], output["label"]
        where = attention_localization(outputs["scores"][:, self.head], targets["box_mask"][:, 0])
        self._rows.extend(
            zip(
                targets["patient_id"],
                targets["risk"][:, 0].int().tolist(),
                outputs["logits"][:, 0].double().sigmoid().tolist(),
                where.mass.tolist(),
                where.chance.tolist(),
                where.hit.tolist(),
                targets["lost_boxes"].tolist(),
                strict=True,
            )
        )

    def _write(self, engine: Engine) -> None:
        write_json(
            self._report,
            {
                "intended_use": INTENDED_USE,
                "checkpoint": describe_checkpoint(self.checkpoint),
                **self._cohort(),
                "scans": len(self._rows),
                "positives": sum(row[1] for row in self._rows),
                "lost_boxes": sum(row[6] for row in self._rows),
                "attention_head": self.head,
                "metrics": finite_scalars(engine.state.metrics),
                "failed": self._failures,
            },
        )
        with (
            replaced_file(self.output_dir / "per_scan.csv") as partial,
            partial.open("w", newline="", encoding="utf-8") as stream,
        ):
            table = csv.writer(stream)
            table.writerow(COLUMNS)
            for row in self._rows:
                table.writerow(["" if _is_nan(value) else value for value in row])

    def _cohort(self) -> dict[str, Any]:
        if self.datalist is None:
            return {"datalist": None, "synthetic": None}
        content = json.loads(Path(self.datalist).read_text(encoding="utf-8"))
        return {"datalist": content.get("name"), "synthetic": content.get("synthetic")}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
