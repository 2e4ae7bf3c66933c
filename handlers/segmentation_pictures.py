"""Pictures of the masks of a few validation scans while a segmenter trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.engines import Evaluator

from handlers.first_examples import FirstExamples
from handlers.middle_voxel import middle_voxel
from handlers.three_planes import three_planes


class SegmentationPictures:
    """Pictures of the first few validation scans with a nodule, drawn anew in every epoch.

    ``<run_dir>/pictures/<patient_id>.png`` shows the network's input in three planes through the
    largest nodule. Nodules have a solid outline, what the network found, in any class, a dashed one
    in another colour. A 2D image is one plane.

    Args:
        run_dir: folder of the training run, made if needed.
        evaluator: the validation engine, with batches of one, ``decollate: false`` and the mask on
            the grid of the network's input.
    """

    def __init__(self, run_dir: str | Path, evaluator: Evaluator) -> None:
        self._examples = FirstExamples(run_dir, evaluator, shows=_has_nodule, draw=_draw)

    def attach(self, engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self._examples.attach(engine)


def _has_nodule(output: Mapping[str, Any]) -> bool:
    return bool((output["label"]["mask"][0] != 0).any())


def _draw(output: Mapping[str, Any], epoch: int, path: Path) -> None:
    targets = output["label"]
    mask = targets["mask"][0].cpu()
    found = (output["pred"]["logits"][0].cpu() > 0).any(dim=0, keepdim=True)
    labels = mask[0].numpy()
    values, voxels = np.unique(labels[labels != 0], return_counts=True)
    everywhere = tuple(slice(0, size) for size in labels.shape)
    largest = int(values[voxels.argmax()])
    inside = mask != 0
    both = int((inside & found).sum())
    dice = 2 * both / int(inside.sum() + found.sum())
    three_planes(
        output["image"][0].cpu(),
        middle_voxel(labels, everywhere, largest),
        path,
        mask=mask,
        found_mask=found,
        title=f"{targets['patient_id'][0]}   Dice of the scan {dice:.3f}   epoch {epoch}   "
        "(solid: nodules, dashed: found)",
        window=(0.0, 1.0),
    )
