"""Pictures of the boxes in a few validation scans while a detector trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.engines import Evaluator

from handlers.first_examples import FirstExamples
from handlers.three_planes import three_planes


class DetectionPictures:
    """Pictures of the first few validation scans with a nodule, drawn anew in every epoch.

    ``<run_dir>/pictures/<patient_id>.png`` shows the network's input in three planes through the
    centre of the box with the highest score, or where there is none, of the first nodule. Nodules
    have a solid outline, boxes found a dashed one in another colour. A 2D image is one plane.

    Args:
        run_dir: folder of the training run, made if needed.
        evaluator: the validation engine, with batches of one and ``decollate: false``.
        min_score: boxes with a lower score are not shown.
    """

    def __init__(
        self, run_dir: str | Path, evaluator: Evaluator, *, min_score: float = 0.1
    ) -> None:
        self.min_score = min_score
        self._examples = FirstExamples(run_dir, evaluator, shows=_has_nodule, draw=self._draw)

    def attach(self, engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self._examples.attach(engine)

    def _draw(self, output: Mapping[str, Any], epoch: int, path: Path) -> None:
        image, targets = output["image"][0].cpu(), output["label"]
        nodules = targets["boxes_voxel"][0, : int(targets["box_count"][0])].cpu().numpy()
        scores = output["pred"]["scores"][0].cpu().numpy()
        order = np.argsort(-scores, kind="stable")
        shown = order[scores[order] >= self.min_score]
        found = output["pred"]["boxes"][0].cpu().numpy()[shown]
        said = (
            f"best score {scores[shown[0]]:.3f}"
            if len(shown)
            else f"no score of {self.min_score:g} or more"
        )
        low, high = np.split((found if len(shown) else nodules)[0], 2)
        three_planes(
            image,
            np.floor((low + high) / 2).clip(0, np.array(image.shape[1:]) - 1),
            path,
            boxes_voxel=nodules,
            found_voxel=found,
            title=f"{targets['patient_id'][0]}   {said}   epoch {epoch}   "
            "(solid: nodules, dashed: found)",
            window=(0.0, 1.0),
        )


def _has_nodule(output: Mapping[str, Any]) -> bool:
    return bool(output["label"]["box_count"][0] > 0)
