from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from transforms import BoxesToMaskd, DownsampleMaskd, ScanError, boxes_to_mask


def image(shape: tuple[int, ...], affine: np.ndarray) -> MetaTensor:
    meta = {"filename_or_obj": "scan.nii.gz"}
    return MetaTensor(torch.zeros(1, *shape), torch.from_numpy(affine), meta)


def affine_of(permutation: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(permutation, signs, strict=True)):
        affine[world, axis] = sign * (0.7, 0.8, 2.5)[axis]
    affine[:3, 3] = (11.3, -40.2, 7.7)
    return affine


def naive(box: np.ndarray, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Overlap of every voxel's cell with the box, in mm, for affines without rotation."""
    half = np.abs(affine[:3, :3]).sum(axis=1) / 2
    mask = np.zeros(shape, np.uint8)
    for voxel in np.ndindex(*shape):
        centre = affine[:3, :3] @ voxel + affine[:3, 3]
        low = np.maximum(centre - half, box[:3] - box[3:] / 2)
        high = np.minimum(centre + half, box[:3] + box[3:] / 2)
        mask[voxel] = ((high - low) / (2 * half) > 1e-3).all()
    return mask


@pytest.mark.parametrize("permutation", itertools.permutations(range(3)))
def test_equals_the_naive_loop_in_every_orientation(permutation: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(n * 3**i for i, n in enumerate(permutation)))
    shape = (7, 6, 5)
    for signs in itertools.product((1, -1), repeat=3):
        affine = affine_of(permutation, signs)
        centre = affine[:3, :3] @ (rng.random(3) * np.array(shape) - 0.5) + affine[:3, 3]
        box = np.concatenate([centre, rng.uniform(0.3, 6, 3)])
        got = boxes_to_mask([box.tolist()], image(shape, affine))
        assert np.array_equal(got[0].numpy(), naive(box, shape, affine))
        assert got.dtype == torch.uint8 and np.allclose(got.affine, affine)


def test_edges_on_cell_faces_give_exactly_the_voxels_they_came_from() -> None:
    rng = np.random.default_rng(3)
    shape = (40, 30, 20)
    for _ in range(50):
        affine = affine_of(tuple(rng.permutation(3)), tuple(rng.choice([-1, 1], 3)))
        start = rng.integers(0, 15, 3)
        stop = start + rng.integers(1, 5, 3)
        faces = np.stack([start, stop]) - 0.5
        corners = faces @ affine[:3, :3].T + affine[:3, 3]
        box = np.concatenate([corners.mean(axis=0), np.abs(corners[1] - corners[0])])
        # As a datalist carries it: float32 text.
        mask = boxes_to_mask([[float(np.float32(value)) for value in box]], image(shape, affine))
        want = np.zeros(shape, np.uint8)
        want[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = 1
        assert np.array_equal(mask[0].numpy(), want)


def test_oblique_boxes_cover_their_hull() -> None:
    angle = np.deg2rad(45)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:2, 3] = -affine[:2, :2] @ (10, 10)
    mask = boxes_to_mask([[0, 0, 10, 4, 4, 3]], image((21, 21, 21), affine))[0].numpy()
    # A square of side 4 turned by 45 degrees reaches 2.83 voxels from its centre.
    assert [(set(axis)) for axis in np.nonzero(mask)] == [
        set(range(7, 14)),
        set(range(7, 14)),
        {9, 10, 11},
    ]


def test_two_dimensions_several_boxes_and_none() -> None:
    plane = MetaTensor(torch.zeros(1, 6, 8), torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
    mask = boxes_to_mask([[1.0, 2.0, 0.5, 2.0], [2.5, 14.0, 0.5, 9.0]], plane)
    assert mask[0].nonzero().tolist() == [[2, 1], [5, 5], [5, 6], [5, 7]]
    assert not boxes_to_mask([], plane).any()
    assert not boxes_to_mask(np.zeros((0, 4)), plane).any()
    assert boxes_to_mask([], plane).shape == (1, 6, 8)


def test_a_box_thinner_than_a_voxel_is_not_lost() -> None:
    whole = image((4, 4, 4), np.eye(4))
    assert boxes_to_mask([[1.2, 1, 1, 1e-4, 1e-4, 1e-4]], whole)[0].nonzero().tolist() == [
        [1, 1, 1]
    ]
    assert boxes_to_mask([[1.5, 1, 1, 1e-4, 0.1, 0.1]], whole).any()


@pytest.mark.parametrize(
    ("boxes", "rule"),
    [
        ([[1, 1, 1, 0, 2, 2]], "size above zero"),
        ([[1, 1, 1, -1, 2, 2]], "size above zero"),
        ([[1, float("nan"), 1, 2, 2, 2]], "finite"),
        ([[1, 1, 1, float("inf"), 2, 2]], "finite"),
        ([[1, 1, 2, 2]], r"shape \(N, 6\), got \(1, 4\)"),
    ],
)
def test_refuses_in_one_sentence_that_names_the_scan(boxes: list, rule: str) -> None:
    with pytest.raises(ScanError, match=rf"scan\.nii\.gz: .*{rule}"):
        boxes_to_mask(boxes, image((10, 10, 10), np.eye(4)))


def test_the_map_keeps_malignant_boxes_only() -> None:
    sample = {
        "image": image((6, 6, 6), np.eye(4)),
        "boxes": [[1, 1, 1, 1, 1, 1], [4, 4, 4, 1, 1, 1]],
        "box_labels": [0, 1],
    }
    out = BoxesToMaskd()(sample)
    assert out["box_mask"].nonzero().tolist() == [[0, 4, 4, 4]]
    benign = {**sample, "box_labels": [0, 0]}
    assert not BoxesToMaskd()(benign)["box_mask"].any()
    none = {**sample, "boxes": [], "box_labels": []}
    assert not BoxesToMaskd()(none)["box_mask"].any()
    with pytest.raises(ScanError, match="one label for each box, got 1 for 2"):
        BoxesToMaskd()({**sample, "box_labels": [1]})
    with pytest.raises(ValueError, match="keys must name one list"):
        BoxesToMaskd(("boxes", "more"))


def test_a_channel_for_each_lesion_and_the_last_for_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    boxes = [[0, 0, 0, 1, 1, 1], [50, 1, 1, 2, 2, 2], *([n, n, n, 1, 1, 1] for n in (2, 3, 4, 5))]
    sample = {
        "image": image((6, 6, 6), np.eye(4)),
        "boxes": boxes,
        "box_labels": [0, 1, 1, 1, 1, 1],
    }
    out = BoxesToMaskd(lesions=3)(sample)
    # The benign box and the one outside take no channel.
    assert out["box_mask"].nonzero().tolist() == [
        [0, 2, 2, 2],
        [1, 3, 3, 3],
        [2, 4, 4, 4],
        [2, 5, 5, 5],
    ]
    assert out["box_mask"].dtype == torch.uint8 and out["lost_boxes"] == 1
    assert caplog.text.count("lies outside of the crop") == 1
    one = BoxesToMaskd()(sample)["box_mask"]
    assert torch.equal(one, out["box_mask"].amax(dim=0, keepdim=True))
    spare = BoxesToMaskd(lesions=6)(sample)["box_mask"]
    assert spare.flatten(1).any(dim=1).tolist() == [1, 1, 1, 1, 0, 0]
    assert not BoxesToMaskd(lesions=2)({**sample, "boxes": [], "box_labels": []})["box_mask"].any()
    with pytest.raises(ValueError, match="lesions must be at least 1, got 0"):
        BoxesToMaskd(lesions=0)


def test_lesions_stay_apart_on_the_feature_grid() -> None:
    sample = {
        "image": image((9, 8, 7), np.eye(4)),
        "boxes": [[0, 0, 0, 1, 1, 1], [3, 3, 3, 4, 4, 4]],
        "box_labels": [1, 1],
    }
    out = DownsampleMaskd("box_mask", (4, 4, 4))(BoxesToMaskd(lesions=3)(sample))["box_mask"]
    assert out.shape == (3, 3, 2, 2)
    assert out[0].nonzero().tolist() == [[0, 0, 0]]
    # Voxels 1 to 5 and, along axis 0, cells of three; along axis 2 the middle one touches both.
    assert out[1].flatten().tolist() == [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert not out[2].any()


def test_a_box_that_a_crop_lost_is_told_and_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mask = boxes_to_mask([[50, 1, 1, 2, 2, 2], [4, 4, 4, 1, 1, 1]], image((6, 6, 6), np.eye(4)))
    assert mask.nonzero().tolist() == [[0, 4, 4, 4]]
    assert "box 0 lies outside of the crop" in caplog.text
    sample = {
        "image": image((6, 6, 6), np.eye(4)),
        "boxes": [[50, 1, 1, 2, 2, 2], [4, 4, 4, 1, 1, 1]],
        "box_labels": [1, 1],
    }
    assert BoxesToMaskd()(sample)["lost_boxes"] == 1
    assert BoxesToMaskd()({**sample, "box_labels": [0, 1]})["lost_boxes"] == 0
