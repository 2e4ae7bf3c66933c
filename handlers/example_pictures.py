"""Pictures of a few validation scans while a network trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines import Evaluator
from scipy import ndimage

from cohorts.replaced_file import replaced_file
from handlers.attention_map import SHOWN_FROM, attention_map, attention_peak
from handlers.three_planes import three_planes
from handlers.writable_folder import writable_folder
from transforms import attention_to_scan

EXAMPLES = 3


class ExamplePictures:
    """Pictures of the first few validation scans with a lesion, drawn anew in every epoch.

    ``<run_dir>/pictures/<patient_id>.png`` shows the network's input in three planes through the
    attention's peak, with the attention and, as boxes, the cells of ``A*`` of all lesions; the
    title has the risk, of a yearly network that of its last year. A 2D image is one plane.

    Args:
        run_dir: folder of the training run, made if needed.
        evaluator: the validation engine, with batches of one and ``decollate: false``.
        head: the attention head shown.
    """

    def __init__(self, run_dir: str | Path, evaluator: Evaluator, head: int = 0) -> None:
        self.folder = Path(run_dir) / "pictures"
        self.evaluator = evaluator
        self.head = head
        self._drawn = 0

    def attach(self, _engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self.evaluator.add_event_handler(Events.EPOCH_STARTED, self._begin)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _begin(self) -> None:
        writable_folder(self.folder)
        self._drawn = 0

    def _draw(self, engine: Evaluator) -> None:
        output = engine.state.output
        targets, mask = output["label"], output["label"]["box_mask"][0].amax(dim=0)
        if self._drawn == EXAMPLES or not mask.any():
            return
        self._drawn += 1
        image = output["image"][0].cpu()
        scores = output["pred"]["scores"][0, self.head].detach().cpu()
        attention = attention_map(scores, image)
        name = str(targets["patient_id"][0])
        risk = float(output["pred"]["logits"][0, -1].sigmoid())
        with replaced_file(self.folder / f"{name}.png") as partial:
            three_planes(
                image,
                attention_peak(attention, image).voxel,
                partial,
                overlay=attention_to_scan(attention, image),
                overlay_from=SHOWN_FROM,
                boxes_voxel=lesion_boxes(mask.cpu(), image),
                title=f"{name}   risk {risk:.3f}   epoch {engine.state.epoch}",
                window=(0.0, 1.0),
            )


def lesion_boxes(mask: torch.Tensor, image: MetaTensor) -> list[np.ndarray]:
    """Corners in the image's voxels, half-open, round each connected part of a feature mask."""
    labels, _ = ndimage.label(mask.numpy() > 0)
    voxels_per_cell = np.array(image.shape[1:]) / np.array(mask.shape)
    return [
        np.concatenate(
            [
                [part.start for part in parts] * voxels_per_cell,
                [part.stop for part in parts] * voxels_per_cell,
            ]
        )
        for parts in ndimage.find_objects(labels)
    ]
