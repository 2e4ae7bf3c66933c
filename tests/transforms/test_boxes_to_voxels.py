from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, RandFlipd, RandSpatialCropd, Spacingd

from transforms import (
    BoxesToVoxelsd,
    ScanError,
    boxes_ras_lps,
    boxes_to_voxels,
    boxes_to_world,
)

_LOW, _HIGH = np.array([3, 5, 2]), np.array([8, 9, 6])  # voxels of the nodule, past the last


def _oblique() -> np.ndarray:
    a, b = np.deg2rad((12.0, -20.0))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag((0.7, -0.8, 2.5))
    affine[:3, 3] = (-20, 31, 7.5)
    return affine


def _orientations() -> list[np.ndarray]:
    affines = []
    for permutation in itertools.permutations(range(3)):
        for signs in ((1, 1, 1), (-1, 1, -1), (-1, -1, 1)):
            affine = np.zeros((4, 4))
            affine[3, 3] = 1
            for axis, (world, sign) in enumerate(zip(permutation, signs, strict=True)):
                affine[world, axis] = sign * (0.7, 0.8, 2.5)[axis]
            affine[:3, 3] = (11.3, -40.2, 7.7)
            affines.append(affine)
    return affines


def _world_box(low: np.ndarray, high: np.ndarray, affine: np.ndarray) -> list[float]:
    """Hull in the world of the cells of voxels ``low`` to ``high``, corner by corner."""
    corners = np.array(list(itertools.product(*zip(low - 0.5, high - 0.5, strict=True))))
    rank = len(low)
    world = corners @ affine[:rank, :rank].T + affine[:rank, -1]
    lowest, highest = world.min(axis=0), world.max(axis=0)
    return [*(lowest + highest) / 2, *(highest - lowest)]


def _sample(affine: np.ndarray, shape: tuple[int, ...] = (14, 12, 10)) -> dict:
    mask = np.zeros((1, *shape), np.float32)
    mask[0, _LOW[0] : _HIGH[0], _LOW[1] : _HIGH[1], _LOW[2] : _HIGH[2]] = 1
    meta = {"filename_or_obj": "scan.nii.gz"}
    image = MetaTensor(torch.from_numpy(mask), torch.from_numpy(affine), meta)
    return {
        "image": image,
        "mask": image.clone(),
        "boxes": [_world_box(_LOW, _HIGH, affine)],
        "box_labels": [0],
    }


def _extent(mask: torch.Tensor) -> list[float]:
    found = mask[0].nonzero()
    return [*found.amin(dim=0).tolist(), *(found.amax(dim=0) + 1).tolist()]


@pytest.mark.parametrize("affine", _orientations())
def test_a_box_round_voxels_has_their_edges_in_every_orientation(affine: np.ndarray) -> None:
    box = _world_box(_LOW, _HIGH, affine)
    corners = boxes_to_voxels([box], torch.from_numpy(affine))
    assert corners.dtype == torch.float64
    assert corners[0].tolist() == pytest.approx([*_LOW, *_HIGH], abs=1e-9)
    assert boxes_to_world(corners, torch.from_numpy(affine))[0].tolist() == pytest.approx(box)


@pytest.mark.parametrize("affine", [*_orientations()[:4], _oblique()])
def test_lps_boxes_with_an_lps_affine_lie_on_the_same_voxels(affine: np.ndarray) -> None:
    boxes = torch.tensor([[3.0, -4, 5, 6, 7, 8], [-1, 2, 3.5, 0.5, 4, 1]], dtype=torch.float64)
    to_lps = np.diag((-1.0, -1.0, 1.0, 1.0))
    lps = boxes_ras_lps(boxes)
    assert lps[0].tolist() == [-3, 4, 5, 6, 7, 8]
    assert torch.equal(boxes_ras_lps(lps), boxes)
    in_ras = boxes_to_voxels(boxes, torch.from_numpy(affine))
    in_lps = boxes_to_voxels(lps, torch.from_numpy(to_lps @ affine))
    torch.testing.assert_close(in_lps, in_ras)
    back = boxes_to_world(in_lps, torch.from_numpy(to_lps @ affine))
    torch.testing.assert_close(
        boxes_ras_lps(back), boxes_to_world(in_ras, torch.from_numpy(affine))
    )


def test_under_an_oblique_affine_it_is_the_hull_and_keeps_its_centre() -> None:
    affine = _oblique()
    box = [4.0, -6.0, 12.0, 5.0, 8.0, 10.0]
    corners = boxes_to_voxels([box], torch.from_numpy(affine))
    half = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * box[3:]
    points = (half + box[:3] - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T + 0.5
    expected = [*points.min(axis=0), *points.max(axis=0)]
    assert corners[0].tolist() == pytest.approx(expected)
    back = boxes_to_world(corners, torch.from_numpy(affine))[0].numpy()
    assert back[:3] == pytest.approx(box[:3])
    assert (back[3:] >= box[3:]).all()


def test_two_dimensions_with_an_affine_of_either_size() -> None:
    wide = np.diag((0.5, -2.0, 1.0, 1.0))
    wide[:2, 3] = (10, 20)
    square = np.delete(np.delete(wide, 2, axis=0), 2, axis=1)
    box = _world_box(np.array([3, 5]), np.array([8, 9]), square)
    for affine in (wide, square):
        corners = boxes_to_voxels([box], torch.from_numpy(affine))
        assert corners[0].tolist() == pytest.approx([3, 5, 8, 9])
        back = boxes_to_world(corners, torch.from_numpy(affine))
        assert back[0].tolist() == pytest.approx(box)


def test_no_box() -> None:
    for convert in (boxes_to_voxels, boxes_to_world):
        assert convert(torch.zeros(0, 6), torch.eye(4)).shape == (0, 6)
    out = BoxesToVoxelsd(max_boxes=3)({**_sample(np.eye(4)), "boxes": [], "box_labels": []})
    assert torch.equal(out["boxes_voxel"], torch.zeros(3, 6))
    assert out["box_count"] == 0 and out["lost_boxes"] == 0


@pytest.mark.parametrize("affine", [*_orientations()[::5], _oblique()])
def test_after_flips_and_crops_the_box_is_where_the_nodule_is(affine: np.ndarray) -> None:
    flips = [RandFlipd(("image", "mask"), prob=0.5, spatial_axis=axis) for axis in range(3)]
    crop = RandSpatialCropd(("image", "mask"), roi_size=(12, 10, 8), random_size=False)
    transform = Compose([*flips, crop, BoxesToVoxelsd(max_boxes=2)])
    # What an oblique hull adds to each end, in voxels.
    corners = boxes_to_voxels(_sample(affine)["boxes"], torch.from_numpy(affine))[0].numpy()
    spare = (corners[3:] - corners[:3] - (_HIGH - _LOW)) / 2
    kept = 0
    for seed in range(25):
        out = transform.set_random_state(seed)(_sample(affine))
        box = out["boxes_voxel"][0].numpy()
        if out["box_count"] and out["mask"].sum() == (_HIGH - _LOW).prod():
            kept += 1
            box = [*(box[:3] + spare), *(box[3:] - spare)]
            assert box == pytest.approx(_extent(out["mask"]), abs=1e-4)
        assert out["box_count"] + out["lost_boxes"] == 1
    assert kept > 5


@pytest.mark.parametrize("affine", _orientations()[::5])
def test_after_resampling_the_box_is_where_the_nodule_is(affine: np.ndarray) -> None:
    spacing = Spacingd(("image", "mask"), pixdim=(0.5, 0.6, 0.4), mode=("bilinear", "nearest"))
    out = BoxesToVoxelsd(max_boxes=1)(spacing(_sample(affine)))
    assert out["spacing_mm"].tolist() == pytest.approx([0.5, 0.6, 0.4])
    # The nearest voxel is off by half a voxel at most, MONAI's grid by rounding.
    assert out["boxes_voxel"][0].tolist() == pytest.approx(_extent(out["mask"]), abs=0.51)
    size_mm = (out["boxes_voxel"][0, 3:] - out["boxes_voxel"][0, :3]) * out["spacing_mm"]
    assert size_mm.tolist() == pytest.approx((_HIGH - _LOW) * (0.7, 0.8, 2.5), rel=1e-5)


def test_boxes_whose_centre_is_outside_are_counted_as_lost_and_others_are_not_cut() -> None:
    sample = _sample(np.eye(4), shape=(8, 9, 6))
    # Edges run from -0.5 to 7.5 along the first axis.
    sample["boxes"] = [
        [-0.5, 4, 4, 4, 2, 2],
        [-0.6, 4, 4, 4, 2, 2],
        [7.5, 4, 4, 4, 2, 2],
        [7.4, 4, 4, 4, 2, 2],
    ]
    out = BoxesToVoxelsd(max_boxes=3)(sample)
    assert out["boxes_voxel"].dtype == torch.float32
    assert out["box_count"] == 2 and out["lost_boxes"] == 2
    expected = [[-2, 3.5, 3.5, 2, 5.5, 5.5], [5.9, 3.5, 3.5, 9.9, 5.5, 5.5], [0] * 6]
    torch.testing.assert_close(out["boxes_voxel"], torch.tensor(expected))


def test_samples_make_a_batch_of_plain_tensors() -> None:
    samples = [BoxesToVoxelsd(max_boxes=3)(_sample(affine)) for affine in _orientations()[:2]]
    batch = list_data_collate(samples)
    shapes = {"boxes_voxel": (2, 3, 6), "box_count": (2,), "lost_boxes": (2,), "spacing_mm": (2, 3)}
    for key, shape in shapes.items():
        assert type(batch[key]) is torch.Tensor and batch[key].shape == shape


def test_more_boxes_than_rows_are_refused() -> None:
    sample = _sample(np.eye(4))
    sample["boxes"] *= 3
    with pytest.raises(ScanError, match=r"scan.nii.gz: at most max_boxes = 2 .*, got 3"):
        BoxesToVoxelsd(max_boxes=2)(sample)


def test_bad_boxes_and_arguments_are_refused() -> None:
    for box, expected in (
        ([1, 2, 3, 4, 0, 5], "box 0 must be finite with a size above zero"),
        ([1, 2, 3, 4, -1, 5], "box 0 must be finite with a size above zero"),
        ([1, 2, np.nan, 4, 1, 5], "box 0 must be finite with a size above zero"),
        ([1, 2, 3, 4], r"boxes must have shape \(N, 6\), got \(1, 4\)"),
    ):
        with pytest.raises(ScanError, match=f"scan.nii.gz: {expected}"):
            BoxesToVoxelsd(max_boxes=2)({**_sample(np.eye(4)), "boxes": [box]})
    with pytest.raises(ValueError, match="max_boxes must be at least 1, got 0"):
        BoxesToVoxelsd(max_boxes=0)
    with pytest.raises(ValueError, match="keys must name one list"):
        BoxesToVoxelsd(("boxes", "more"), max_boxes=1)
