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

import handlers.segmentation_pictures
from handlers import PrepareTargets, SegmentationPictures
from handlers.first_examples import EXAMPLES

SIDE = 16


class _Finds(Inferer):
    """Logits of 1 in a box, and below 0 elsewhere."""

    def __init__(self, box: slice) -> None:
        super().__init__()
        self.box = box

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        logits = torch.full(inputs.shape, -2.0)
        logits[0, 0].numpy()[(self.box,) * (inputs.ndim - 2)] = 1
        return {"logits": logits, "affine": torch.eye(4)}


def _batch(index: int, *nodules: slice, rank: int = 3) -> dict[str, Any]:
    mask = torch.zeros(1, 1, *[SIDE] * rank, dtype=torch.int16)
    for label, box in enumerate(nodules, start=1):
        mask[0, 0].numpy()[(box,) * rank] = label
    return {
        "image": MetaTensor(torch.rand(mask.shape), torch.eye(4)),
        "mask": mask,
        "patient_id": [f"p{index}"],
    }


def _run(batches: list[dict[str, Any]], finds: _Finds, run_dir: Path, epochs: int = 1) -> None:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(batches, batch_size=None),  # type: ignore[arg-type]
        network=nn.Identity(),
        inferer=finds,
        prepare_batch=PrepareTargets(["mask", "patient_id"], with_attention=False),
        decollate=False,
    )
    SegmentationPictures(run_dir, evaluator).attach(None)
    for epoch in range(1, epochs + 1):
        evaluator.run(global_epoch=epoch)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is given to ``three_planes``, which draws nothing."""
    shown: list[dict[str, Any]] = []

    def keep(image: MetaTensor, point: Any, path: Path, **settings: Any) -> None:
        shown.append({"point": tuple(np.asarray(point).tolist()), **settings})
        path.touch()

    monkeypatch.setattr(handlers.segmentation_pictures, "three_planes", keep)
    return shown


def test_the_first_scans_with_a_nodule_are_drawn_anew_in_every_epoch(tmp_path, drawn):
    batches = [_batch(index, *[slice(3, 7)] * (index % 2)) for index in range(2 * EXAMPLES + 2)]
    _run(batches, _Finds(slice(3, 7)), tmp_path, epochs=2)
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == ["p1.png", "p3.png", "p5.png"]
    titles = [picture["title"].split("   ")[:3] for picture in drawn]
    assert titles == [
        [f"p{index}", "Dice of the scan 1.000", f"epoch {epoch}"]
        for epoch in (1, 2)
        for index in (1, 3, 5)
    ]


def test_without_a_nodule_nothing_is_drawn(tmp_path, drawn):
    _run([_batch(0)], _Finds(slice(3, 7)), tmp_path)
    assert drawn == []


def test_the_point_is_in_the_largest_nodule_and_the_masks_are_true_and_found(tmp_path, drawn):
    _run([_batch(0, slice(1, 3), slice(8, 13))], _Finds(slice(9, 13)), tmp_path)
    (picture,) = drawn
    assert picture["point"] == (10, 10, 10)
    assert picture["mask"].unique().tolist() == [0, 1, 2]
    assert picture["found_mask"].sum() == 4**3
    # 64 voxels of 8 + 125 were found, and none beside them.
    assert f"Dice of the scan {2 * 64 / (133 + 64):.3f}" in picture["title"]


def test_where_nothing_is_found_the_nodule_is_shown(tmp_path, drawn):
    _run([_batch(0, slice(3, 6))], _Finds(slice(0, 0)), tmp_path)
    (picture,) = drawn
    assert picture["point"] == (4, 4, 4)
    assert not picture["found_mask"].any()
    assert "Dice of the scan 0.000" in picture["title"]


@pytest.mark.parametrize("rank", [2, 3])
def test_a_picture(rank, tmp_path):
    _run([_batch(0, slice(3, 6), rank=rank)], _Finds(slice(3, 7)), tmp_path)
    assert (tmp_path / "pictures" / "p0.png").read_bytes().startswith(b"\x89PNG")
