"""Pictures of the attention in a few validation scans while a network trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.engines import Evaluator
from scipy import ndimage

from handlers.attention_map import SHOWN_FROM, attention_map, attention_peak
from handlers.first_examples import FirstExamples
from handlers.three_planes import three_planes
from transforms import attention_to_scan


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
        self.head = head
        self._examples = FirstExamples(run_dir, evaluator, shows=_has_lesion, draw=self._draw)

    def attach(self, engine: Any) -> None:
        """Follow the evaluator; listed with the trainer's handlers, as those of a run are."""
        self._examples.attach(engine)

    def _draw(self, output: Mapping[str, Any], epoch: int, path: Path) -> None:
        image, targets = output["image"][0].cpu(), output["label"]
        attention = attention_map(output["pred"]["scores"][0, self.head], image)
        mask = targets["box_mask"][0].amax(dim=0).cpu()
        risk = float(output["pred"]["logits"][0, -1].sigmoid())
        three_planes(
            image,
            attention_peak(attention, image).voxel,
            path,
            overlay=attention_to_scan(attention, image),
            overlay_from=SHOWN_FROM,
            boxes_voxel=lesion_boxes(mask, image),
            title=f"{targets['patient_id'][0]}   risk {risk:.3f}   epoch {epoch}",
            window=(0.0, 1.0),
        )


def _has_lesion(output: Mapping[str, Any]) -> bool:
    return bool(output["label"]["box_mask"].any())


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
