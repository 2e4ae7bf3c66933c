from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import (
    BoxDistanceMapd,
    BoxesToMaskd,
    DownsampleMaskd,
    ScanError,
    distance_to_boxes,
)


def naive(
    boxes: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], cells: tuple[int, ...]
) -> np.ndarray:
    """Cell by cell: the mean of its corners in mm, and the nearest point of each box."""
    rank = len(shape)
    distance_mm = np.full(cells, np.inf)
    for cell in np.ndindex(*cells):
        corners = [
            [(j + e) * n / m - 0.5 for j, e, n, m in zip(cell, ends, shape, cells, strict=True)]
            for ends in itertools.product((0, 1), repeat=rank)
        ]
        centre = affine[:rank, :rank] @ np.mean(corners, axis=0) + affine[:rank, -1]
        for box in boxes:
            nearest = np.clip(centre, box[:rank] - box[rank:] / 2, box[:rank] + box[rank:] / 2)
            distance_mm[cell] = min(distance_mm[cell], np.linalg.norm(centre - nearest))
    return distance_mm


def oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.8, -0.7, 2.5])
    affine[:3, 3] = 10, -20, 5
    return affine


@pytest.mark.parametrize(
    "affine", [oblique(), np.diag([0.9, -1.1, 3.0, 1.0])], ids=["turned", "straight"]
)
def test_equals_the_naive_loop(affine: np.ndarray) -> None:
    shape, cells = (13, 9, 7), (4, 3, 2)
    middle = affine[:3, :3] @ (np.array(shape) / 2) + affine[:3, 3]
    boxes = np.array([[*middle, 4, 3, 5], [*(middle + 9), 2, 2, 2]])
    got = distance_to_boxes(boxes, torch.from_numpy(affine), shape, cells)
    assert got.shape == (1, *cells) and got.dtype == torch.float32
    expected = naive(boxes, affine, shape, cells)
    np.testing.assert_allclose(got[0].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert (expected > 0).any()


def test_by_hand_and_zero_inside() -> None:
    # Cells of 2 mm centred on 0.5, 2.5, 4.5 and 6.5 mm.
    affine = torch.eye(4)
    got = distance_to_boxes([[2.5, 0.5, 0.5, 1, 1, 1]], affine, (8, 2, 2), (4, 1, 1))
    assert got.flatten().tolist() == pytest.approx([1.5, 0, 1.5, 3.5])


def test_no_box_is_infinitely_far() -> None:
    got = distance_to_boxes([], torch.eye(4), (4, 4, 4), (2, 2, 2))
    assert got.shape == (1, 2, 2, 2) and torch.isinf(got).all()


def test_two_dimensions_with_a_large_affine() -> None:
    affine = np.diag([0.5, 2.0, 1.0, 1.0])
    boxes = np.array([[1.0, 4.0, 0.5, 1.0]])
    got = distance_to_boxes(boxes, torch.from_numpy(affine), (6, 8), (3, 2))
    plane = np.diag([0.5, 2.0, 1.0])
    np.testing.assert_allclose(got[0].numpy(), naive(boxes, plane, (6, 8), (3, 2)), rtol=1e-6)


def test_the_map_takes_malignant_boxes_and_the_grid_of_the_mask() -> None:
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    sample: dict[str, Any] = {
        "image": MetaTensor(torch.zeros(1, 9, 8, 8), affine, {"filename_or_obj": "scan.nii"}),
        "boxes": [[8, 8, 8, 2, 2, 2], [0, 0, 0, 2, 2, 2], [90, 8, 8, 2, 2, 2]],
        "box_labels": [1, 0, 1],
    }
    for transform in (BoxesToMaskd(), DownsampleMaskd("box_mask", (4, 4, 4)), BoxDistanceMapd()):
        sample = transform(sample)
    distance_mm = sample["box_distance_mm"]
    malignant = np.array([sample["boxes"][0], sample["boxes"][2]])
    expected = naive(malignant, affine.numpy(), (9, 8, 8), (3, 2, 2))
    np.testing.assert_allclose(distance_mm[0].numpy(), expected, rtol=1e-5)
    assert torch.equal(distance_mm.affine, sample["box_mask"].affine)
    # A lesion that the crop has lost is where it is.
    lost = BoxDistanceMapd()({**sample, "boxes": [[90, 8, 8, 2, 2, 2]], "box_labels": [1]})
    assert torch.isfinite(lost["box_distance_mm"]).all()
    benign = BoxDistanceMapd()({**sample, "box_labels": [0, 0, 0]})["box_distance_mm"]
    assert benign.shape == (1, 3, 2, 2) and torch.isinf(benign).all()
    with pytest.raises(ScanError, match=r"scan\.nii: box_labels must have one label for each box"):
        BoxDistanceMapd()({**sample, "box_labels": [1]})
    with pytest.raises(ValueError, match="keys must name one list"):
        BoxDistanceMapd(("boxes", "more"))
