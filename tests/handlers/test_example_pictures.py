from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn
from torch.utils.data import DataLoader

from handlers import ExamplePictures, PrepareTargets
from handlers.example_pictures import lesion_boxes
from handlers.first_examples import EXAMPLES


class _Network(nn.Module):
    def forward(self, image: torch.Tensor, with_attention: bool) -> dict[str, torch.Tensor]:
        scores = nn.functional.avg_pool3d(image, 4)
        return {"logits": scores.mean(dim=(2, 3, 4)), "scores": scores}


def _sample(index: int, lesion: bool) -> Any:
    mask = torch.zeros(2, 4, 4, 4)
    mask[index // 2 % 2, 1, 2, 3] = float(lesion)  # in either channel
    image = MetaTensor(torch.rand(1, 16, 16, 16), torch.eye(4))
    return {"image": image, "box_mask": mask, "patient_id": f"p{index}"}


def test_the_first_scans_with_a_lesion_are_drawn(tmp_path: Path) -> None:
    samples: Any = [_sample(index, lesion=index % 2 == 1) for index in range(2 * EXAMPLES + 2)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(samples, batch_size=1, collate_fn=_collate),
        network=_Network(),
        prepare_batch=PrepareTargets(["box_mask", "patient_id"]),
        decollate=False,
    )
    ExamplePictures(tmp_path, evaluator).attach(None)
    evaluator.run()
    evaluator.run()
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == ["p1.png", "p3.png", "p5.png"]


def test_without_a_lesion_nothing_is_drawn(tmp_path: Path) -> None:
    none: Any = [_sample(0, lesion=False)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(none, collate_fn=_collate),
        network=_Network(),
        prepare_batch=PrepareTargets(["box_mask", "patient_id"]),
        decollate=False,
    )
    ExamplePictures(tmp_path, evaluator).attach(None)
    evaluator.run()
    assert list((tmp_path / "pictures").iterdir()) == []


def test_boxes_stand_round_each_lesions_cells() -> None:
    mask = torch.zeros(4, 4, 2)
    mask[0, 0, 0] = 1
    mask[2:4, 3, 1] = 1
    image = MetaTensor(torch.zeros(1, 16, 8, 8), torch.eye(4))
    boxes = sorted(box.tolist() for box in lesion_boxes(mask, image))
    assert np.allclose(boxes, [[0, 0, 0, 4, 2, 4], [8, 6, 4, 16, 8, 8]])


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    (sample,) = samples
    return {
        "image": MetaTensor(sample["image"][None], sample["image"].affine),
        "box_mask": sample["box_mask"][None],
        "patient_id": [sample["patient_id"]],
    }
