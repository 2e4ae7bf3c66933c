from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers.inferer import Inferer
from torch import nn
from torch.utils.data import DataLoader

import handlers.detection_pictures
from handlers import DetectionPictures, PrepareTargets
from handlers.first_examples import EXAMPLES

NODULE = [2.0, 3, 4, 6, 7, 8]


class _Finds(Inferer):
    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        super().__init__()
        self.boxes, self.scores = torch.tensor(boxes), torch.tensor(scores)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        boxes = self.boxes.reshape(-1, 2 * (inputs.ndim - 2))
        return {"boxes": [boxes], "scores": [self.scores]}


def _batch(index: int, nodules: int, rank: int = 3) -> dict[str, Any]:
    boxes = torch.zeros(1, 4, 2 * rank)
    nodule = NODULE[:rank] + NODULE[3 : 3 + rank]
    boxes[0, :nodules] = torch.tensor(nodule)
    return {
        "image": MetaTensor(torch.rand(1, 1, *[16] * rank), torch.eye(4)),
        "boxes_voxel": boxes,
        "box_count": torch.tensor([nodules]),
        "patient_id": [f"p{index}"],
    }


def _run(batches: list[dict[str, Any]], finds: _Finds, run_dir: Path, epochs: int = 1) -> None:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(batches, batch_size=None),  # type: ignore[arg-type]
        network=nn.Identity(),
        inferer=finds,
        prepare_batch=PrepareTargets(
            ["boxes_voxel", "box_count", "patient_id"], with_attention=False
        ),
        decollate=False,
    )
    DetectionPictures(run_dir, evaluator, min_score=0.5).attach(None)
    for epoch in range(1, epochs + 1):
        evaluator.run(global_epoch=epoch)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the pictures show, in place of the pictures."""
    shown: list[dict[str, Any]] = []

    def keep(image: MetaTensor, point: Any, path: Path, **settings: Any) -> None:
        shown.append({"point": tuple(np.asarray(point).tolist()), **settings})
        path.touch()

    monkeypatch.setattr(handlers.detection_pictures, "three_planes", keep)
    return shown


def test_the_first_scans_with_a_nodule_are_drawn_anew_in_every_epoch(tmp_path, drawn):
    batches = [_batch(index, nodules=index % 2) for index in range(2 * EXAMPLES + 2)]
    _run(batches, _Finds([NODULE], [0.9]), tmp_path, epochs=2)
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["p1.png", "p3.png", "p5.png"]
    titles = [picture["title"].split("   ")[:3] for picture in drawn]
    assert titles == [
        [f"p{index}", "best score 0.900", f"epoch {epoch}"]
        for epoch in (1, 2)
        for index in (1, 3, 5)
    ]


def test_without_a_nodule_nothing_is_drawn(tmp_path, drawn):
    _run([_batch(0, nodules=0)], _Finds([NODULE], [0.9]), tmp_path)
    assert drawn == []


def test_the_point_is_the_centre_of_the_best_box_and_weak_ones_are_left_out(tmp_path, drawn):
    boxes: list[list[float]] = [[0.0, 0, 0, 2, 2, 2], [8, 9, 10, 11, 12, 13], [1, 1, 1, 3, 3, 3]]
    _run([_batch(0, nodules=2)], _Finds(boxes, [0.5, 0.75, 0.4]), tmp_path)
    (picture,) = drawn
    assert picture["point"] == (9, 10, 11)
    np.testing.assert_array_equal(picture["found_voxel"], [boxes[1], boxes[0]])
    np.testing.assert_array_equal(picture["boxes_voxel"], [NODULE, NODULE])  # no row of zeros


@pytest.mark.parametrize(("boxes", "scores"), [([], []), ([[0.0, 0, 0, 2, 2, 2]], [0.4])])
def test_where_nothing_is_found_the_first_nodule_is_shown(boxes, scores, tmp_path, drawn):
    _run([_batch(0, nodules=1)], _Finds(boxes, scores), tmp_path)
    (picture,) = drawn
    assert picture["point"] == (4, 5, 6)
    assert len(picture["found_voxel"]) == 0
    assert "no score of 0.5 or more" in picture["title"]


@pytest.mark.parametrize("rank", [2, 3])
def test_a_picture_of_a_box_past_the_image(rank, tmp_path):
    box = [14.0] * rank + [21.0] * rank
    _run([_batch(0, nodules=1, rank=rank)], _Finds([box], [0.9]), tmp_path)
    assert (tmp_path / "pictures" / "p0.png").read_bytes().startswith(b"\x89PNG")
