from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import BoxesToVoxelsd, CropAroundBoxd, ScanError

_SHAPE = (20, 16, 12)


def _sample(boxes: list[list[float]]) -> dict:
    """Boxes as corners in voxels. Each voxel holds its index, so that a crop tells its place."""
    affine = np.diag((-0.7, 0.8, 2.5, 1.0))
    affine[:3, 3] = (5, -6, 7)
    index = torch.arange(math.prod(_SHAPE)).reshape(1, *_SHAPE)
    image = MetaTensor(index, torch.from_numpy(affine), {"filename_or_obj": "scan.nii.gz"})
    world = []
    for corners in np.array(boxes).reshape(-1, 2, 3):
        centre = (corners.mean(axis=0) - 0.5) * affine.diagonal()[:3] + affine[:3, 3]
        world.append([*centre, *(corners[1] - corners[0]) * abs(affine.diagonal()[:3])])
    return {"image": image, "copy": image.clone(), "boxes": world}


def _starts(
    boxes: list[list[float]], patch: tuple[int, ...], share: float, draws: int = 120
) -> np.ndarray:
    """First voxels ``(draws, 3)`` of as many patches."""
    crop = CropAroundBoxd(("image", "copy"), patch, share)
    crop.set_random_state(0)
    sample = _sample(boxes)
    starts = []
    for _ in range(draws):
        out = crop(sample)
        assert out["image"].shape == (1, *patch)
        assert torch.equal(out["image"].as_tensor(), out["copy"].as_tensor())
        starts.append(np.unravel_index(int(out["image"].min()), _SHAPE))
    return np.array(starts)


def _range(starts: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(starts.min(axis=0).tolist(), starts.max(axis=0).tolist(), strict=True))


def test_a_patch_asked_for_a_box_holds_all_of_it_at_every_place_where_it_can() -> None:
    starts = _starts([[8.2, 3, 5, 11.9, 7, 6]], (8, 6, 4), 1.0, draws=300)
    assert _range(starts) == [(4, 8), (1, 3), (2, 5)]
    assert len(np.unique(starts, axis=0)) == 5 * 3 * 4


def test_of_a_box_larger_than_the_patch_it_holds_the_centre() -> None:
    starts = _starts([[1, 2, 5, 14, 15, 6]], (4, 4, 4), 1.0, draws=300)
    # The centre is at 7.5, 8.5: voxels 7 and 8.
    assert _range(starts) == [(4, 7), (5, 8), (2, 5)]


def test_a_box_at_the_border_does_not_push_the_patch_out() -> None:
    starts = _starts([[-3, -1, 10, 3.5, 5, 13]], (8, 6, 4), 1.0)
    # The centre is at 0.25, 2, 11.5; what lies in the image fits.
    assert _range(starts) == [(0, 0), (0, 0), (8, 8)]


def test_each_box_has_its_turn_but_not_those_outside_the_image() -> None:
    boxes: list[list[float]] = [[1, 1, 1, 3, 3, 3], [15, 11, 8, 18, 14, 10], [40, 1, 1, 44, 3, 3]]
    starts = _starts(boxes, (6, 6, 4), 1.0)
    first = (starts <= 1).all(axis=1)
    second = (starts >= (12, 8, 6)).all(axis=1)
    assert (first | second).all() and 0.35 < first.mean() < 0.65


@pytest.mark.parametrize("boxes", [[], [[8, 3, 5, 11, 7, 6]], [[40, 1, 1, 44, 3, 3]]])
def test_otherwise_it_is_anywhere_in_the_image(boxes: list[list[float]]) -> None:
    share = 0.0 if boxes == [[8, 3, 5, 11, 7, 6]] else 1.0
    assert _range(_starts(boxes, (8, 6, 4), share, draws=300)) == [(0, 12), (0, 10), (0, 8)]


def test_the_share_of_patches_with_a_box_is_what_was_asked_for() -> None:
    starts = _starts([[0, 0, 0, 1, 1, 1]], (3, 3, 3), 0.4, draws=400)
    at_box = (starts == 0).all(axis=1).mean()
    assert 0.33 < at_box < 0.47  # 0.4, and one in 2,520 of the rest


def test_the_box_moves_with_the_patch_and_the_draws_follow_the_seed() -> None:
    sample = _sample([[8, 3, 5, 11, 7, 6]])
    crop = CropAroundBoxd(("image",), (8, 6, 4), 1.0)
    outs = []
    for seed in (3, 3, 4):
        crop.set_random_state(seed)
        outs.append(crop(sample)["image"])
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    start = np.unravel_index(int(outs[0].min()), _SHAPE)
    placed = BoxesToVoxelsd(max_boxes=1)({"image": outs[0], "boxes": sample["boxes"]})
    expected = np.array([8, 3, 5, 11, 7, 6]) - np.tile(start, 2)
    assert placed["boxes_voxel"][0].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_patch_as_large_as_the_image_is_the_image() -> None:
    assert _range(_starts([[8, 3, 5, 11, 7, 6]], _SHAPE, 1.0, draws=3)) == [(0, 0)] * 3


def test_bad_input_is_refused() -> None:
    crop = CropAroundBoxd("image", (8, 17, 4), 0.5)
    with pytest.raises(ScanError, match=r"scan.nii.gz: .* \[8, 17, 4\] voxels, got \[20, 16, 12\]"):
        crop(_sample([]))
    with pytest.raises(ScanError, match=r"\[8, 6\] voxels, got \[20, 16, 12\]"):
        CropAroundBoxd("image", (8, 6), 0.5)(_sample([]))
    with pytest.raises(ValueError, match=r"positive_share must lie between 0 and 1, got 1.5"):
        CropAroundBoxd("image", (8, 6, 4), 1.5)
    with pytest.raises(ValueError, match=r"patch_shape must be above 0 .*, got \(8, 0, 4\)"):
        CropAroundBoxd("image", (8, 0, 4), 0.5)
